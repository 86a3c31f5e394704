"""The rules of the house as tests: who may import whom, linters, types, and what the text may say."""

import ast
import fnmatch
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "compat_engine"
PYTHON_FILES = sorted((ROOT / PACKAGE).rglob("*.py"))
SCRIPTS = sorted(p for p in (ROOT / "scripts").iterdir() if p.is_file() and p.read_bytes().startswith(b"#!/usr/bin/env python"))

SHIM_STDLIB = """
    __future__ _signal _socket array codecs collections contextlib ctypes dataclasses enum errno fcntl functools gc itertools json math
    os resource select signal socket stat string struct sys termios time tty types typing zlib
"""
KERNEL_STDLIB = SHIM_STDLIB + "hashlib mmap pathlib platform re shutil tempfile"
BELOW_ENGINE = "runtime images network volumes logs"
SUBSYSTEM = "store kernel shim.spec shim.protocol errors ids units config"


@dataclass(frozen=True)
class Rule:
    """What modules may import, as words: modules of this package, packages from outside, the standard library's (None: all)."""

    ours: str = ""
    packages: str = ""
    stdlib: str | None = None


# The first pattern that matches a module's dotted name (below compat_engine) decides. A module always may import its own package.
RULES: dict[str, Rule] = {
    "__init__": Rule(),
    "errors": Rule(),
    "ids": Rule("errors"),
    "units": Rule("errors"),
    "config": Rule("errors units __version__"),
    "wire*": Rule("errors", "pydantic pydantic_core"),
    "kernel*": Rule(stdlib=KERNEL_STDLIB),
    "shim*": Rule("kernel", stdlib=SHIM_STDLIB),
    "store*": Rule("errors", "aiofiles"),
    "images.registry*": Rule(f"{SUBSYSTEM} __version__", "aiohttp yarl"),
    "images.view": Rule(f"{SUBSYSTEM} shim.rootfs shim.failure", "msgspec"),  # mounts a stopped container's rootfs as init does
    "images*": Rule(SUBSYSTEM, "isal zstandard msgspec"),
    "logs*": Rule(SUBSYSTEM, "msgspec"),
    "runtime*": Rule(SUBSYSTEM),
    "network.dns*": Rule(SUBSYSTEM, "dns"),
    "network*": Rule(SUBSYSTEM),
    "volumes*": Rule(SUBSYSTEM),
    "engine*": Rule(f"{BELOW_ENGINE} {SUBSYSTEM} wire __version__", "pydantic msgspec re2"),
    "api*": Rule("engine wire errors config __version__", "aiohttp multidict pydantic msgspec"),
    "daemon": Rule(f"api engine listeners {BELOW_ENGINE} {SUBSYSTEM} wire shim __version__", "aiohttp"),
    "listeners": Rule("errors config", "aiohttp"),
    "__main__": Rule("daemon config errors"),
}
ONLY_AIOHTTP_WEB = ("api*", "daemon", "listeners")
FORBIDDEN_WORDS = (
    "/work" + "/", "../" + "shared", "pypi." + "org", "pythonhosted" + ".org", "deb.debian" + ".org", "registry." + "npmjs",
)  # fmt: skip


def module_name(path: Path) -> str:
    """`api.routes.containers` for compat_engine/api/routes/containers.py, `api` for api/__init__.py, `__init__` for the top."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def rule_of(module: str) -> Rule:
    for pattern, rule in RULES.items():
        if fnmatch.fnmatchcase(module, pattern):
            return rule
    raise AssertionError(f"no import rule covers {module}: add it to the table")


def imports(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, module, name) of every import, wherever in the file; name is "" for `import module`, relative ones keep their dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, "." * node.level + (node.module or ""), alias.name) for alias in node.names)


def offence(module: str, target: str, name: str) -> str:
    """Why `module` may not import `name` from `target`; "" when it may."""
    rule = rule_of(module)
    top = target.partition(".")[0]
    if not top:
        return f"{module}: relative import"
    if top == PACKAGE:
        wanted = ".".join([*target.split(".")[1:], *([name] if name else [])])
        own = module.partition(".")[0]
        allowed = [*rule.ours.split(), *([own] if (ROOT / PACKAGE / own).is_dir() else [])]
        return "" if any(wanted == prefix or wanted.startswith(f"{prefix}.") for prefix in allowed) else f"{module} -> {wanted}"
    if top in sys.stdlib_module_names:
        return "" if rule.stdlib is None or top in rule.stdlib.split() else f"{module} -> {top} (standard library)"
    if top == "aiohttp" and (target, name) in (("aiohttp", "web"), ("aiohttp.web", name)):
        return "" if any(fnmatch.fnmatchcase(module, pattern) for pattern in ONLY_AIOHTTP_WEB) else f"{module} -> aiohttp.web"
    return "" if top in rule.packages.split() else f"{module} -> {top} (package)"


def test_imports_follow_the_table() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {why}"
        for path in PYTHON_FILES
        for line, target, name in imports(path)
        if (why := offence(module_name(path), target, name))
    ]
    assert not found, "\n".join(found)


def test_the_table_sees_a_forbidden_edge() -> None:
    assert offence("network.ipam", "compat_engine.images.layers", "Layer")
    assert offence("shim.init", "asyncio", "")
    assert offence("shim.init", "compat_engine.errors", "NotFound")
    assert offence("engine.events", "aiohttp", "web")
    assert not offence("engine.events", "compat_engine.ids", "short")
    assert not offence("shim.init", "compat_engine.kernel", "mounts")


def test_conformance_stands_alone() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {target}"
        for path in sorted((ROOT / "conformance").rglob("*.py"))
        for line, target, _ in imports(path)
        if target.partition(".")[0] in (PACKAGE, "tests", "docker")
    ]
    assert not found, "\n".join(found)


@pytest.mark.timeout(600)
def test_every_module_imports_alone() -> None:
    """Each module in a process without the others, so that none leans on another's import; packages are loaded once, for speed."""
    names = [f"{PACKAGE}.{module_name(path)}".removesuffix(".__init__") for path in PYTHON_FILES]
    code = (
        "import importlib, os, sys\n"
        "import asyncio, aiohttp.web, isal, msgspec, pydantic, ssl, sqlite3, zstandard\n"
        "running = set()\n"
        "for name in sys.argv[1:]:\n"
        "    if len(running) == (os.cpu_count() or 1):\n"
        "        running.discard(os.wait()[0])\n"
        "    running.add(pid := os.fork())\n"
        "    if pid == 0:\n"
        "        try:\n"
        "            importlib.import_module(name)\n"
        "        except BaseException as error:\n"
        "            print(f'{name}: {error!r}', flush=True)\n"
        "            os._exit(1)\n"
        "        os._exit(0)\n"
        "while running:\n"
        "    running.discard(os.wait()[0])\n"
    )
    result = run([sys.executable, "-W", "error", "-c", code, *(name for name in names if not name.endswith("__main__"))])
    assert result.returncode == 0 and not result.stdout, result.stdout + result.stderr


def test_the_shim_loads_nothing_heavy() -> None:
    """What a container's supervisor loads decides its memory: no package from outside, no asyncio, logging or subprocess."""
    modules = [f"{PACKAGE}.{module_name(path)}" for path in PYTHON_FILES if module_name(path).startswith("shim.")]
    code = "import sys\nsys.path.insert(0, sys.argv[1])\nfor name in sys.argv[2:]: __import__(name)\nprint(*sys.modules)"
    loaded = set(run([sys.executable, "-I", "-S", "-c", code, str(ROOT), *modules], check=True).stdout.split())
    heavy = {"asyncio", "threading", "logging", "subprocess", "sqlite3", "pydantic", "aiohttp", "traceback", "unittest"}
    assert not heavy & loaded


def test_ruff() -> None:
    result = run([sys.executable, "-m", "ruff", "check", "--no-fix", "."])
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.timeout(600)
def test_mypy() -> None:
    for target in ([], *([str(path)] for path in SCRIPTS)):
        result = run([sys.executable, "-m", "mypy", *target])
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_text_names_nothing_outside_the_repository() -> None:
    listed = run(["git", "ls-files"], check=False).stdout.split("\n") if (ROOT / ".git").exists() else []
    files = [ROOT / name for name in listed if name] or [path for path in ROOT.rglob("*") if ".venv" not in path.parts]
    found = []
    for path in files:
        if not path.is_file() or path.stat().st_size > 2 << 20:
            continue
        text = path.read_bytes()
        found += [f"{path.relative_to(ROOT)}: {word}" for word in FORBIDDEN_WORDS if word.encode() in text]
    assert not found, "\n".join(found)


def functions(path: Path) -> Iterator[tuple[int, str]]:
    """(lines, where) of every function in a file, nested ones included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def test_functions_stay_short(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the ten longest; nine in ten stay under 40 lines, none reaches 120."""
    sizes = sorted((item for path in PYTHON_FILES for item in functions(path)), reverse=True)
    with capsys.disabled():
        print("\nthe ten longest functions")
        print(*(f"{lines:5d}  {where}" for lines, where in sizes[:10]), sep="\n")
    assert sizes[0][0] < 120, sizes[0]
    assert sizes[len(sizes) // 10][0] < 40


def run(command: list[str], check: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=check, timeout=600)

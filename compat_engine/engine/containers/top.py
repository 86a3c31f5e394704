"""GET /containers/{id}/top: the container's processes, by their pids on the host."""

import asyncio
import re
from typing import Any

from compat_engine.engine.containers.create import attributes
from compat_engine.engine.parts import Engine
from compat_engine.engine.processes import TITLES, list_processes
from compat_engine.errors import Conflict, Internal

_RENAMED_PID = re.compile(r"\s+(\S*)=\s*(PID\S*)")
_DEFAULT = "-ef"


async def top(engine: Engine, word: str, ps_args: str = _DEFAULT) -> dict[str, Any]:
    """Titles and Processes. Other `ps_args` than -ef go to the host's ps. Raises NotFound, Conflict while it does not run,
    Internal with what ps said."""
    arguments = ps_args.strip() or _DEFAULT
    _check(ps_args)
    container = engine.containers.find(word)
    if container.state.status == "restarting":
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    engine.containers.running(container.id)
    pids = await engine.runtime.pids(container.id)
    if arguments == _DEFAULT:
        titles, rows = list(TITLES), await asyncio.to_thread(list_processes, pids)
    else:
        titles, rows = select(await _ps(arguments.split(), pids), pids)
    engine.events.publish("container", "top", container.id, attributes(container.record))
    return {"Processes": rows, "Titles": titles}


def _check(ps_args: str) -> None:
    """A column that only calls itself PID would let processes of others through."""
    for column, title in _RENAMED_PID.findall(ps_args):
        if column != "pid":
            raise Internal(f'specifying "{column}={title}" is not allowed')


def select(output: str, pids: list[int]) -> tuple[list[str], list[list[str]]]:
    """The titles, and the rows of those pids, out of what ps printed. Raises Internal when it printed no pids."""
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise Internal("Couldn't find PID field in ps output")
    at, wanted = titles.index("PID"), set(pids)
    rows = []
    for line in lines[1:]:
        fields = line.split(maxsplit=len(titles) - 1)
        if len(fields) <= at:
            continue
        if not fields[at].isdecimal():
            raise Internal(f"Unexpected pid '{fields[at]}': strconv.Atoi: parsing \"{fields[at]}\": invalid syntax")
        if int(fields[at]) in wanted:
            rows.append(fields)
    return titles, rows


async def _ps(arguments: list[str], pids: list[int]) -> str:
    code, output, complaint = await _run(*arguments, f"-q{','.join(map(str, pids))}")
    if code:
        code, output, complaint = await _run(*arguments)  # -q cannot be combined with every option
    if code:
        raise Internal(f"ps: {complaint.partition(chr(10))[0].removeprefix('ps: ') or f'exit status {code}'}")
    return output


async def _run(*arguments: str) -> tuple[int, str, str]:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            "ps", *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
    except FileNotFoundError:
        raise Internal('ps: exec: "ps": executable file not found in $PATH') from None
    except (OSError, ValueError) as error:  # too long, or a NUL byte
        raise Internal(f"ps: {error}") from error
    output, complaint = await process.communicate()
    return process.returncode or 0, output.decode(errors="replace"), complaint.decode(errors="replace")

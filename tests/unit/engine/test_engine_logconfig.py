"""Log drivers and their options, in dockerd's words."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from compat_engine.config import Config, from_arguments
from compat_engine.engine.logattrs import log_attributes
from compat_engine.engine.logconfig import check, plan, resolve
from compat_engine.engine.logtag import render
from compat_engine.engine.records import ContainerRecord
from compat_engine.errors import Internal, InvalidParameter
from compat_engine.shim.spec import Log
from compat_engine.store.tree import Tree
from compat_engine.units import size_bytes
from compat_engine.wire.container import Config as ContainerConfig
from compat_engine.wire.container import HostConfig, LogConfig

ID = "0123456789ab" + "c" * 52


def record(driver: str = "json-file", config: Mapping[str, object] | None = None, **options: str) -> ContainerRecord:
    host = HostConfig.parse({"LogConfig": {"Type": driver, "Config": {key.replace("_", "-"): options[key] for key in options}}})
    return ContainerRecord(
        id=ID, name="web", created="2026-11-24T13:09:54.998989567Z", config=ContainerConfig.parse({"Image": "busybox", **(config or {})}),
        host_config=host, image="sha256:" + "b" * 64, endpoints={}, args=("sh", "-c", "echo hi"),
    )  # fmt: skip


def planned(tmp_path: Path, driver: str = "json-file", **options: str) -> Log:
    tree = Tree(tmp_path, tmp_path)
    tree.container(ID).mkdir(parents=True, exist_ok=True)
    return plan(tree, record(driver, None, **options))


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("nosuch", {}, 'error looking up logging plugin nosuch: plugin "nosuch" not found'),
        ("json-file", {"nosuch": "1"}, "unknown log opt 'nosuch' for json-file log driver"),
        ("local", {"labels": "a"}, "unknown log opt 'labels' for log driver local"),
        ("json-file", {"mode": "x"}, "logger: logging mode not supported: x"),
        ("local", {"max-buffer-size": "1m"}, "logger: max-buffer-size option is only supported with 'mode=non-blocking'"),
        ("local", {"mode": "non-blocking", "max-buffer-size": "-1"}, "error parsing option max-buffer-size: invalid size: '-1'"),
    ],
)
def test_refused_at_create(driver: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        check(driver, options)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("none", {"nosuch": "1"}),
        ("json-file", {"max-size": "x", "cache-disabled": "true"}),
        ("local", {"mode": "non-blocking", "max-buffer-size": "5"}),
    ],
)
def test_not_refused_at_create(driver: str, options: dict[str, str]) -> None:
    check(driver, options)


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("json-file", {"max_size": "x"}, "invalid size: 'x'"),
        ("json-file", {"max_size": ""}, "invalid size: ''"),
        ("json-file", {"max_size": "9" * 5000}, "invalid size: '9999"),
        ("json-file", {"max_size": "0"}, "max-size must be a positive number"),
        ("json-file", {"max_file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"max_file": "x"}, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("json-file", {"compress": "x"}, 'strconv.ParseBool: parsing "x": invalid syntax'),
        ("json-file", {"compress": "true"}, "compress cannot be true when max-file is less than 2 or max-size is not set"),
        ("json-file", {"env_regex": "("}, "error parsing regexp: missing closing ): `(`"),
        ("json-file", {"labels_regex": "["}, "error parsing regexp: missing closing ]: `[`"),
        ("json-file", {"env_regex": "a(b"}, "error parsing regexp: missing closing ): `a(b`"),
        ("json-file", {"env_regex": "*a"}, "error parsing regexp: missing argument to repetition operator: `*`"),
        ("json-file", {"env_regex": "a**"}, "error parsing regexp: invalid nested repetition operator: `**`"),
        ("json-file", {"env_regex": "a{2,1}"}, "error parsing regexp: invalid repeat count: `{2,1}`"),
        ("json-file", {"env_regex": "a)"}, "error parsing regexp: unexpected ): `a)`"),
        ("json-file", {"env_regex": "a\\"}, "error parsing regexp: trailing backslash at end of expression: ``"),
        ("json-file", {"tag": "{{"}, "template: log-tag:1: unclosed action"),
        ("local", {"max_size": "-1"}, "invalid value for max-size: -1: invalid size: '-1'"),
        ("local", {"max_file": ""}, 'invalid value for max-file: : strconv.Atoi: parsing "": invalid syntax'),
        ("local", {"compress": ""}, 'error reading compress log option: strconv.ParseBool: parsing "": invalid syntax'),
        ("local", {"max_file": "1"}, "compression cannot be enabled when max file count is 1"),
        ("local", {"max_file": "-1", "compress": "0"}, "max file count cannot be less than 0"),
    ],
)
def test_refused_at_start(tmp_path: Path, driver: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(Internal) as refused:
        planned(tmp_path, driver, **options)
    assert str(refused.value).startswith(f"failed to create task for container: failed to initialize logging driver: {message}")


def test_what_the_shim_is_told(tmp_path: Path) -> None:
    file, local = f"{tmp_path}/containers/{ID}/{ID}-json.log", f"{tmp_path}/containers/{ID}/local-logs/container.log"
    assert planned(tmp_path) == Log("json-file", file, 100_000_000, 3)
    assert planned(tmp_path, max_size="20k") == Log("json-file", file, 20_000, 1)
    assert planned(tmp_path, max_size="1.5m", max_file="2", compress="1") == Log("json-file", file, 1_500_000, 2, True)
    assert planned(tmp_path, mode="non-blocking").buffer == 1 << 20
    assert planned(tmp_path, mode="non-blocking", max_buffer_size="4k").buffer == 4096
    assert planned(tmp_path, "local") == Log("local", local, 20_000_000, 5, True)
    assert planned(tmp_path, "local", max_file="0", compress="f") == Log("local", local, 20_000_000, 1)
    assert planned(tmp_path, "none") == Log("none")


def test_sizes() -> None:
    assert [size_bytes(text) for text in ("10", "1b", "10k", "2 M", "1g", "5mb", "1.5kib")] == [10, 1, 10**4, 2 * 10**6, 10**9, 5 * 10**6, 1500]
    assert size_bytes("1m", 1024) == 1 << 20


def test_the_daemon_s_options_are_for_its_driver(tmp_path: Path) -> None:
    config = Config(log_driver="local", log_opts={"max-size": "1m", "max-file": "2"})
    assert resolve(config, LogConfig()) == LogConfig(Type="local", Config={"max-size": "1m", "max-file": "2"})
    asked = LogConfig(Type="local", Config={"max-size": "5m"})
    assert resolve(config, asked) == LogConfig(Type="local", Config={"max-size": "5m", "max-file": "2"})
    assert resolve(config, LogConfig(Type="json-file")) == LogConfig(Type="json-file", Config={})


def test_options_of_the_daemon(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"log-driver": "local", "log-opts": {"max-size": "1m"}}))
    given = from_arguments(["--config-file", str(file)])
    assert (given.log_driver, given.log_opts) == ("local", {"max-size": "1m"})
    file.write_text("{}")
    given = from_arguments(["--config-file", str(file), "--log-opt", "max-size=2m", "--log-opt=tag={{.Name}}=x"])
    assert given.log_opts == {"max-size": "2m", "tag": "{{.Name}}=x"}
    with pytest.raises(InvalidParameter, match="invalid value for log-opts: NAME=VALUE is wanted"):
        from_arguments(["--config-file", str(file), "--log-opt", "max-size"])


def test_attributes() -> None:
    config = {"Labels": {"a": "1", "b": "2", "xx": "é<&>\u2028"}, "Env": ["a=2", "Cx=1", "Cy", "B="]}
    about = record(config=config)
    assert log_attributes(about, {"labels": "a,c", "env": "B"}, "") == '{"B":"","a":"1"}'
    assert log_attributes(about, {"labels": "a", "env": "a"}, "") == '{"a":"2"}'
    assert log_attributes(about, {"labels-regex": "^x", "env-regex": "^C"}, "") == r'{"Cx":"1","xx":"é\u003c\u0026\u003e\u2028"}'
    assert log_attributes(about, {"labels": " a", "tag": ""}, "") == ""
    assert log_attributes(about, {"tag": "{{.Name}}/{{.ID}}"}, "") == '{"tag":"web/0123456789ab"}'


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain }}", "plain }}"),
        ("{{.Name}}-{{ .Labels }}-{{.Words}}", "web-map[a:1 b:2]-[x y]"),
        ('{{ index .Labels "a" }}{{index .Words 1}}{{.Labels.b}}', "1y2"),
        ('{{.Name | upper}} {{title .Name}} {{pad .Name 1 2}}| {{truncate .Name 2}} {{slice .Name 1 2}}', "WEB Web  web  | we e"),
        ('{{json .Labels}} {{join .Words ","}} {{split .Name "e"}} {{len .Name}}', '{"a":"1","b":"2"} x,y [w b] 3'),
        ('{{printf "%s=%v" .Name 5}} {{`raw`}} {{"}}\\n"}}', "web=5 raw }}\n"),
        ("a {{- .Name -}} b", "awebb"),
        ("{{if .Name}}a{{else}}b{{end}} {{if not .Name}}a{{end}}", "a "),
        ('{{if eq .Name "x"}}1{{else if eq .Name "y" "web"}}2{{else}}3{{end}}', "2"),
        ("{{with .Name}}[{{.}}]{{$.Name}}{{end}}{{with .Labels.nosuch}}x{{else}}none{{end}}", "[web]webnone"),
        ("{{range .Words}}<{{.}}>{{end}}{{range $i, $w := .Words}}{{$i}}{{$w}}{{end}}", "<x><y>0x1y"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}},{{end}}{{range .Labels.none}}x{{else}}-{{end}}", "a=1,b=2,-"),
        ('{{$n := upper .Name}}{{$n}}{{/* no */}} {{join (split "a,b" ",") "-"}}', "WEB a-b"),
        ('{{and .Name (not .Words)}} {{or "" .Name}} {{lt 1 2}} {{len .Words | printf "%03d"}}', "false web true 002"),
        ('{{printf "%q|%5s|%-3s|%x|%%" .Name "a" "b" 255}} {{print .Name 1 2}}', '"web"|    a|b  |ff|% web1 2'),
    ],
)
def test_tags(template: str, text: str) -> None:
    assert render(template, {"Name": "web", "Labels": {"b": "2", "a": "1"}, "Words": ["x", "y"]}) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Foo}}", "can't evaluate field Foo in type *logger.Info"),
        ("{{.Name.Foo}}", "can't evaluate field Foo in type string"),
        ("{{nosuch}}", 'template: log-tag:1: function "nosuch" not defined'),
        ("{{if .Name}}y", "unexpected EOF"),
        ("{{if}}y{{end}}", "missing value for if"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{define `x`}}{{end}}", "{{define}} is not supported"),
        ("{{(upper .Name}}", "unclosed left paren"),
        ("{{upper .Name)}}", 'unexpected ")" in command'),
        ("{{.Name .Name}}", "can't give argument to non-function web"),
        ("{{if eq .Name 1}}{{end}}", "error calling eq: incompatible types for comparison"),
        ('{{printf "%d"}}', "bad format %d"),
        ("{{.}}", "not supported"),
        ("{{.Name", "unclosed action"),
        ("{{}}", "missing value for command"),
        ("{{.Name |}}", "missing value for command"),
        ("{{pad .Name}}", "error calling pad"),
        ("{{ $x }}", 'undefined variable "$x"'),
        # what would keep the daemon busy, or fill its memory
        ("{" * 100_000, "unclosed action"),
        ("{{if .Name}}" * 50_000, "recursion"),
        ("{{" + "(" * 50_000 + ")" * 50_000 + "}}", "recursion"),
        ("{{range 1000}}{{range 1000000000}}{{end}}{{end}}", "range goes on beyond 1000 turns"),
        ('{{printf "%999999999d" 1}}', "bad format %999999999d"),
        ('{{pad "a" 999999999 0}}', "too wide"),
    ],
)
def test_bad_tags(template: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        render(template, {"Name": "web"})
    assert message in str(refused.value)

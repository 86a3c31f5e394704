"""Queries and bodies as Docker reads them, with its error texts."""

import json
import re
from collections.abc import Collection
from typing import Final, NoReturn, TypeVar

from aiohttp import web

from compat_engine.api.route import QUERY, ROUTE, VARIABLES, VERSION
from compat_engine.api.versions import upgrade_body
from compat_engine.errors import InvalidParameter
from compat_engine.wire.base import Wire

W = TypeVar("W", bound=Wire)

_FALSE: Final = frozenset(("", "0", "no", "false", "none"))
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_INT64: Final = range(-(1 << 63), 1 << 63)
_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+*'`|~%-]+(/[\w!#$&^.+*'`|~%-]+)?")


def text(request: web.BaseRequest, name: str, default: str = "") -> str:
    return request[QUERY].get(name, default)


def variable(request: web.BaseRequest, name: str) -> str:
    """A variable of the route's path, percent-decoded."""
    return request[VARIABLES][name]


def boolean(request: web.BaseRequest, name: str, default: bool = False) -> bool:
    """False for "", 0, no, false, none in any case; true for every other word; `default` when absent."""
    word = request[QUERY].get(name)
    return default if word is None else word.strip().lower() not in _FALSE


def integer(request: web.BaseRequest, name: str) -> int | None:
    """None when absent or empty. Raises InvalidParameter with Go's text."""
    word = text(request, name)
    return go_integer(word, "Atoi") if word else None


def required_integer(request: web.BaseRequest, name: str) -> int:
    return go_integer(text(request, name), "Atoi")


def size(request: web.BaseRequest) -> tuple[int, int]:
    """(rows, columns) of a terminal, from `h` and `w`. Raises InvalidParameter."""
    rows, columns = required_integer(request, "h"), required_integer(request, "w")
    for name, value in (("height", rows), ("width", columns)):
        if not 0 <= value < 1 << 16:
            raise InvalidParameter(f"invalid {name}: {value}")
    return rows, columns


def timestamp(request: web.BaseRequest, name: str) -> int | None:
    """Nanoseconds since the epoch from `seconds[.fraction]`; None when absent or empty."""
    word = text(request, name)
    if not word:
        return None
    seconds, _, fraction = word.partition(".")
    whole = go_integer(seconds, "ParseInt")
    return whole * 1_000_000_000 + (go_integer(f"{fraction:0<9}"[:9], "ParseInt") if fraction else 0)


def filters(request: web.BaseRequest, allowed: Collection[str] | None = None) -> dict[str, list[str]]:
    """Both forms: {"k": {"v": true}} and {"k": ["v"]}. Raises InvalidParameter for another form or a key not in `allowed`."""
    word = text(request, "filters")
    if not word:
        return {}
    try:
        raw = json.loads(word)
    except (ValueError, RecursionError):
        raise InvalidParameter("invalid filter") from None
    found = {name: _filter_values(values) for name, values in raw.items()} if isinstance(raw, dict) else _not_a_filter(raw)
    for name in found:
        if allowed is not None and name not in allowed:
            raise InvalidParameter(f"invalid filter '{name}'")
    return found


async def body(request: web.BaseRequest, model: type[W]) -> W:
    """The JSON body, brought up from the request's version; an empty body is the zero value. Raises InvalidParameter."""
    raw = await json_body(request)
    return model.parse(raw)


async def json_body(request: web.BaseRequest, required: bool = False) -> object:
    """Decoded, of the newest version; None for no body. Raises InvalidParameter for other content types and trailing text."""
    data = await request.read()
    content_type = request.headers.get("Content-Type", "")
    if data or content_type:
        check_json_type(content_type)
    if not data and required:
        raise InvalidParameter("invalid JSON: got EOF while reading request body")
    if not data:
        return None
    raw = decode(data)
    if isinstance(raw, dict):
        upgrade_body(request[ROUTE], request[VERSION], raw)
    return raw


def check_json_type(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type:
        raise InvalidParameter(f"malformed Content-Type header ({content_type}): mime: no media type")
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise InvalidParameter(f"malformed Content-Type header ({content_type}): mime: invalid media parameter")
    if media_type != "application/json":
        raise InvalidParameter(f"unsupported Content-Type header ({content_type}): must be 'application/json'")


def decode(data: bytes) -> object:
    """JSON with Go's leniency (bad UTF-8 and lone surrogates are replaced) and Go's complaints, as InvalidParameter."""
    source = data.decode("utf-8", "replace")
    start = len(source) - len(source.lstrip(" \t\r\n"))
    try:
        raw, end = _DECODER.raw_decode(source, start)
    except json.JSONDecodeError as error:
        raise InvalidParameter(f"invalid JSON: {_complaint(source, error)}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"invalid JSON: {str(error) or 'exceeded max depth'}") from None
    if source[end:].strip(" \t\r\n"):
        raise InvalidParameter("unexpected content after JSON")
    return _without_surrogates(raw) if "\\ud" in source or "\\uD" in source else raw


def go_integer(word: str, function: str) -> int:
    """What strconv.`function` accepts. Raises InvalidParameter with its complaint."""
    if not _INTEGER.fullmatch(word):
        raise InvalidParameter(f"strconv.{function}: parsing {json.dumps(word)}: invalid syntax")
    if len(word) > 20 or int(word) not in _INT64:
        raise InvalidParameter(f"strconv.{function}: parsing {json.dumps(word)}: value out of range")
    return int(word)


def _filter_values(values: object) -> list[str]:
    if isinstance(values, dict) and all(isinstance(value, bool) for value in values.values()):
        return list(values)
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return values
    return [] if values is None else _not_a_filter(values)


def _not_a_filter(_: object) -> NoReturn:
    raise InvalidParameter("invalid filter")


def _number(word: str) -> int:
    if len(word) > 20:
        raise ValueError(f"json: cannot unmarshal number {word[:20]}... into Go value of type int64")
    return int(word)


def _constant(word: str) -> object:
    raise ValueError(f"invalid character '{word[0]}' looking for beginning of value")


_DECODER: Final = json.JSONDecoder(parse_int=_number, parse_constant=_constant)


def _complaint(source: str, error: json.JSONDecodeError) -> str:
    if error.pos >= len(source.rstrip()) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    return f"invalid character '{source[error.pos]}' looking for beginning of value"


def _without_surrogates(raw: object) -> object:
    return json.loads(json.dumps(raw, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace"))

"""What Go's encoding/json does with the Engine API's structs, once for all of them.

A subclass is one struct of the newest API version; its attribute names ARE the wire names. null is the same as absent (Go clients
send null for empty lists and maps), keys match in any case, unknown keys are ignored, scalars are never coerced.
"""

from typing import Annotated, Any, ClassVar, Final, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compat_engine.errors import InvalidParameter

T = TypeVar("T")
_SCALARS: Final = frozenset((str, int, bool, float, type(None)))  # the classes themselves: looked at first, as most values are
_EMPTY: Final = object()
_NONE: Final = object()

Omit = Annotated[T, _EMPTY]
"""A field left out of `dump` while it is zero or empty (Go's omitempty)."""
OmitNone = Annotated[T, _NONE]
"""A field left out of `dump` while it is None, but not while it is 0 or False (Go's omitempty on a pointer)."""

UInt16 = Annotated[int, Field(ge=0, lt=1 << 16)]
UInt32 = Annotated[int, Field(ge=0, lt=1 << 32)]
UInt64 = Annotated[int, Field(ge=0, lt=1 << 64)]
Int64 = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]

_ZERO: Final[dict[object, object]] = {str: "", int: 0, bool: False, dict: {}}
_KINDS: Final = ((bool, "bool"), (int, "number"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
_GO_TYPES: Final = {
    "string_type": "string",
    "bool_type": "bool",
    "int_type": "int64",
    "list_type": "[]string",
    "dict_type": "map[string]string",
}


class Wire(BaseModel):
    """Base of every struct that travels. Values are immutable by agreement: lists and dicts inside are never edited."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    _names: ClassVar[dict[str, str]] = {}  # lower-cased key -> field
    _elements: ClassVar[dict[str, Any]] = {}  # field -> what null means as an element of its list or a value of its map
    _omitted: ClassVar[dict[str, object]] = {}  # field -> marker

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls._names = {name.lower(): name for name in cls.model_fields}
        cls._elements = {}
        cls._omitted = {}
        for name, info in cls.model_fields.items():
            if (zero := _zero_element(info.annotation)) is not None:
                cls._elements[name] = zero
            cls._omitted.update((name, item) for item in info.metadata if item is _EMPTY or item is _NONE)

    @model_validator(mode="before")
    @classmethod
    def _as_go_reads(cls, raw: object) -> object:
        if raw is None:
            return {}
        if not isinstance(raw, dict):
            return raw
        found: dict[str, object] = {}
        for key, value in raw.items():
            name = key if key in cls.model_fields else cls._names.get(str(key).lower())
            if name is not None and value is not None:
                found[name] = _without_nulls(value, cls._elements[name]) if name in cls._elements else value
        return found

    @classmethod
    def parse(cls, raw: object) -> Self:
        """From decoded JSON. Raises InvalidParameter with the text of Go's decoder."""
        try:
            return cls.model_validate(raw)
        except ValidationError as failure:
            raise InvalidParameter(f"invalid JSON: {_go_text(cls.__name__, failure)}") from None

    def dump(self) -> dict[str, Any]:
        """Plain JSON values under wire names, in the order of the fields, as `inspect` echoes them."""
        plain = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            marker = self._omitted.get(name)
            if marker is None or not (value is None or (marker is _EMPTY and not value)):
                plain[name] = _plain(value)
        return plain


def _plain(value: object) -> Any:
    if value.__class__ in _SCALARS:
        return value
    if isinstance(value, Wire):
        return value.dump()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _zero_element(annotation: Any) -> object | None:
    """"" for list[str] and dict[str, str], {} for dict[str, dict[...]] and so on; None where null needs no translation."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (list, dict):
        return _ZERO.get(get_origin(args[-1]) or args[-1])
    return next((zero for arg in args if (zero := _zero_element(arg)) is not None), None)


def _without_nulls(value: object, zero: object) -> object:
    if isinstance(value, list) and None in value:
        return [zero if item is None else item for item in value]
    if isinstance(value, dict) and None in value.values():
        return {key: zero if item is None else item for key, item in value.items()}
    return value


def _go_text(struct: str, failure: ValidationError) -> str:
    error = failure.errors(include_url=False)[0]
    value = error["input"]
    kind = next((name for type_, name in _KINDS if isinstance(value, type_)), "value")
    wanted = _GO_TYPES.get(error["type"], "")
    if error["type"] in ("greater_than_equal", "less_than") or (error["type"] == "int_type" and isinstance(value, float)):
        kind, wanted = f"number {value}", "int64"
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "model_type":
        wanted = str(error.get("ctx", {}).get("class_name", struct))
    if not path:
        return f"json: cannot unmarshal {kind} into Go value of type {wanted or struct}"
    return f"json: cannot unmarshal {kind} into Go struct field {struct}.{path} of type {wanted}"

"""Image references: how Docker reads, normalises and shortens the names people type. Pure."""

import re
from dataclasses import dataclass, replace

from compat_engine.errors import InvalidParameter

DEFAULT_DOMAIN = "docker.io"
_OFFICIAL = "library/"
_NAME_LIMIT = 255

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_NAME = rf"(?P<domain>{_DOMAIN})/(?P<path>{_PATH_PART}(?:/{_PATH_PART})*)"
_REFERENCE = re.compile(rf"{_NAME}(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?")
_TAG_ONLY = re.compile(_TAG)
_HEX64 = re.compile(r"[a-f0-9]{64}")
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


@dataclass(frozen=True, slots=True)
class Reference:
    """domain/path[:tag][@digest], always with its domain. `str()` is the canonical form, `familiar` the one people see."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        short = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in short else short

    @property
    def familiar(self) -> str:
        return self.familiar_name + self._suffix

    @property
    def tagged(self) -> "Reference":
        """With tag latest when neither tag nor digest was given."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    def with_tag(self, tag: str) -> "Reference":
        """The same repository under `tag`. Raises InvalidParameter."""
        if not _TAG_ONLY.fullmatch(tag):
            raise InvalidParameter("invalid tag format")
        return replace(self, tag=tag, digest="")

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix


def parse(text: str) -> Reference:
    """The reference `text` stands for, Docker's defaults filled in except the tag. Raises InvalidParameter in Docker's words."""
    if _HEX64.fullmatch(text):
        raise InvalidParameter(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    repository = remainder.partition(":")[0].partition("@")[0]
    if repository.lower() != repository:
        raise InvalidParameter(f"invalid reference format: repository name ({repository}) must be lowercase")
    found = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if found is None:
        raise InvalidParameter("invalid reference format")
    reference = Reference(found["domain"], found["path"], found["tag"] or "", found["digest"] or "")
    if len(reference.name) > _NAME_LIMIT:
        raise InvalidParameter(f"repository name must not be more than {_NAME_LIMIT} characters")
    if reference.digest:
        _check_digest(reference.digest)
    return reference


def repository_tag(repository: str, tag: str) -> Reference | None:
    """What `repo=` and `tag=` of tag, import and commit name; None when there is no repository. Raises InvalidParameter."""
    if not repository:
        return None
    reference = parse(repository)
    if reference.digest:
        raise InvalidParameter("cannot import digest reference")
    return reference.with_tag(tag) if tag else reference.tagged


def is_digest(text: str) -> bool:
    """A complete digest: algorithm, colon, as many hex digits as the algorithm has."""
    algorithm, _, value = text.partition(":")
    return len(value) == _DIGEST_LENGTHS.get(algorithm, -1) and all(c in "0123456789abcdef" for c in value)


def is_hex_id(text: str) -> bool:
    return _HEX64.fullmatch(text) is not None


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    is_domain = slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    domain, remainder = (first, rest) if is_domain else (DEFAULT_DOMAIN, text)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _check_digest(digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    if algorithm not in _DIGEST_LENGTHS:
        raise InvalidParameter("unsupported digest algorithm")
    if len(value) != _DIGEST_LENGTHS[algorithm]:
        raise InvalidParameter("invalid checksum digest length")
    if value.lower() != value:
        raise InvalidParameter("invalid checksum digest format")

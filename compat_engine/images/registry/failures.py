"""What a registry or the network answers instead of what was asked, in the words Docker's clients know."""

import asyncio
import json
import os
import re
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import aiohttp

from compat_engine.errors import EngineError, Internal, NotFound, Unauthorized
from compat_engine.images.reference import Reference

_BODY = 64 << 10  # bytes of an error's body that are looked at
_KNOWN = {  # code: (its name in a failure, the message that goes without saying), docs/spec/api.md of Docker's registry
    "BLOB_UNKNOWN": ("blob unknown", "blob unknown to registry"),
    "BLOB_UPLOAD_INVALID": ("blob upload invalid", "blob upload invalid"),
    "BLOB_UPLOAD_UNKNOWN": ("blob upload unknown", "blob upload unknown to registry"),
    "DENIED": ("denied", "requested access to the resource is denied"),
    "DIGEST_INVALID": ("digest invalid", "provided digest did not match uploaded content"),
    "MANIFEST_BLOB_UNKNOWN": ("manifest blob unknown", "blob unknown to registry"),
    "MANIFEST_INVALID": ("manifest invalid", "manifest invalid"),
    "MANIFEST_UNKNOWN": ("manifest unknown", "manifest unknown"),
    "NAME_INVALID": ("name invalid", "invalid repository name"),
    "NAME_UNKNOWN": ("name unknown", "repository name not known to registry"),
    "SIZE_INVALID": ("size invalid", "provided length did not match content length"),
    "TAG_INVALID": ("tag invalid", "manifest tag did not match URI"),
    "TOOMANYREQUESTS": ("toomanyrequests", "too many requests"),
    "UNAUTHORIZED": ("unauthorized", "authentication required"),
    "UNAVAILABLE": ("unavailable", "service unavailable"),
    "UNSUPPORTED": ("unsupported", "The operation is unsupported."),
}
_ALERT = re.compile(r"\[SSL: [A-Z0-9]+_ALERT_([A-Z_]+)\]")  # what the other end says when it hangs up (RFC 8446, 6)
_RETRIED = (408, 425, 429, 500, 502, 503, 504)


NO_CREDENTIALS = "no basic auth credentials"


class Unreachable(Exception):
    """The network, or the TLS on it, failed: no answer came, or it broke off."""

    retry_after = 0.0


class Refused(Exception):
    """The registry answered with an error. code: of the distribution spec, "" when it gave none."""

    def __init__(self, status: int, code: str, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether trying again later makes sense."""
        return self.status in _RETRIED


class NoCredentials(Exception):
    """The registry asks for a name and a password, and the client sent none."""


Failure = Unreachable | Refused | NoCredentials
FAILURES = (Unreachable, Refused, NoCredentials)


async def refusal(response: aiohttp.ClientResponse) -> Refused:
    """The error an answer of 400 or more stands for. Raises nothing: a body that cannot be read is none."""
    try:
        body = await response.content.read(_BODY)
    except (aiohttp.ClientError, TimeoutError):
        body = b""
    found = refused(response.status, body, seconds(response.headers.get("Retry-After", "")))
    scope = [header for header in response.headers.getall("WWW-Authenticate", []) if 'error="insufficient_scope"' in header]
    return Refused(found.status, "DENIED", ": ".join(_KNOWN["DENIED"]), found.retry_after) if scope else found


def refused(status: int, body: bytes, retry_after: float = 0.0) -> Refused:
    """Status and body as Docker's distribution client reads them: an error that says no more than its code is the code's name
    alone and stands for nothing, so that it is not put in other words later."""
    if status >= 500:
        return Refused(status, "", f"received unexpected HTTP status: {status} {_phrase(status)}", retry_after)
    code, message, detail = _first_error(body)
    known, usual = _KNOWN.get(code, ("unknown", ""))
    if usual and not detail and message in ("", usual):
        return Refused(status, "", known, retry_after)
    if not code:
        code = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}.get(status, "")
        known, _ = _KNOWN.get(code, ("unknown", ""))
        message = message or body.decode(errors="replace")
    return Refused(status, code, f"{known}: {message or usual}", retry_after)


def network_failure(error: Exception, method: str, url: str) -> Unreachable:
    """An exception of the HTTP client as Go's would put it: `Get "https://host/v2/": dial tcp ...`."""
    cut = isinstance(error, aiohttp.ClientPayloadError)  # the answer had begun: no longer the request's failure
    failure = Unreachable(_reason(error) if cut else f'{method.capitalize()} "{url}": {_reason(error)}')
    failure.__cause__ = error
    return failure


def as_engine_error(failure: Exception, reference: Reference | None = None) -> EngineError:
    """What the client of the daemon gets to see of a failure while pulling `reference` (None: of any other request)."""
    if isinstance(failure, EngineError):
        return failure
    text = str(failure)
    if isinstance(failure, Refused) and reference is not None:
        if failure.code == "DENIED":
            name = reference.familiar_name
            hint = "repository does not exist or may require 'docker login'"
            return NotFound(f"pull access denied for {name}, {hint}: {text}")
        if failure.code == "MANIFEST_UNKNOWN":
            return NotFound(f"manifest for {reference.familiar} not found: {text}")
        if failure.code == "NAME_UNKNOWN":
            return NotFound(f"repository {reference.familiar_name} not found: {text}")
        return Internal(text)
    if isinstance(failure, Refused):
        kind = {401: Unauthorized, 403: Unauthorized, 404: NotFound}.get(failure.status, Internal)
        return kind(text)
    return Internal(text)


def _first_error(body: bytes) -> tuple[str, str, Any]:
    """(code, message, detail) of the first error in a body of the distribution spec, or a token server's `details`."""
    try:
        raw = json.loads(body)
        errors = raw.get("errors") or [{"code": "", "message": raw.get("details") or ""}]
        first = errors[0]
        return str(first.get("code") or "").upper(), str(first.get("message") or ""), first.get("detail")
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return "", "", None


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {_certificate(error)}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {error.host}: {_lookup(error.os_error)}"
    if alert := _ALERT.search(str(error)):
        return f"remote error: tls: {alert[1].lower().replace('_', ' ')}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        plain = "http: server gave HTTP response to HTTPS client"
        return plain if "WRONG_VERSION_NUMBER" in str(error) else f"remote error: tls: {error.os_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"dial tcp {_address(error)}: connect: {_system_text(error.os_error)}"
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "context deadline exceeded"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionResetError):
        return "unexpected EOF"
    return str(error) or type(error).__name__


def _system_text(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _address(error: aiohttp.ClientConnectorError) -> str:
    host = f"[{error.host}]" if ":" in str(error.host) else error.host
    return f"{host}:{error.port}"


def _lookup(error: OSError) -> str:
    missing = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", -5))
    return "no such host" if error.errno in missing else (error.strerror or str(error)).lower()


def _certificate(error: BaseException) -> str:
    cause = getattr(error, "certificate_error", error)
    code = getattr(cause, "verify_code", 0)
    if code in (18, 19, 20, 21):  # self-signed, or an issuer that is not known (openssl verify(1))
        return "certificate signed by unknown authority"
    return str(getattr(cause, "verify_message", "") or cause)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def seconds(text: str) -> float:
    """Retry-After (RFC 9110, 10.2.3): a number of seconds or a date; 0 for neither."""
    if text.isdecimal():
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0

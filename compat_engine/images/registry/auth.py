"""Who asks: credentials as clients send them, a registry's challenges, and the tokens bought with the one for the other."""

import asyncio
import base64
import binascii
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from compat_engine.images.registry.failures import NO_CREDENTIALS, NoCredentials, Refused
from compat_engine.images.registry.http import Http, Sent

CLIENT_ID = "docker"
_SHORTEST = 60  # seconds a token is good for when its server does not say
_EARLY = 5  # seconds before its end a token is no longer used
_SCHEME = re.compile(r"\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s+|$)")
_PARAMETER = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client knows a registry by; never kept, never logged."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    server: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.server!r})"


ANONYMOUS = Credentials()


def parse_credentials(text: str) -> Credentials:
    """X-Registry-Auth: JSON in base64, either alphabet, padded or not; what follows the object does not count, as for Docker's
    engine. Raises ValueError for anything else."""
    raw, _ = json.JSONDecoder().raw_decode(base64.b64decode(_standard(text), validate=True).decode().lstrip())
    return from_object(raw)


def from_object(raw: Any) -> Credentials:
    """An AuthConfig of the API. Raises ValueError."""
    if not isinstance(raw, dict):
        raise ValueError("credentials must be a JSON object")
    fields = {name.lower(): value for name, value in raw.items() if isinstance(value, str)}
    username, password = fields.get("username", ""), fields.get("password", "")
    if not username and fields.get("auth"):
        try:
            username, _, password = base64.b64decode(_standard(fields["auth"])).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError("auth is no base64") from error
    return Credentials(
        username, password, fields.get("identitytoken", ""), fields.get("registrytoken", ""), fields.get("serveraddress", "")
    )


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate challenge (RFC 7235). scheme in lower case."""

    scheme: str
    parameters: dict[str, str]


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of an answer; what cannot be read is left out."""
    found = []
    for header in headers:
        at = 0
        while match := _SCHEME.match(header, at):
            at, parameters = match.end(), {}
            while parameter := _PARAMETER.match(header, at):
                name, quoted, plain = parameter.groups()
                parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
                at = parameter.end()
            found.append(Challenge(match[1].lower(), parameters))
    return found


@dataclass(frozen=True, slots=True)
class Token:
    value: str
    expires: float  # time.monotonic()
    refresh: str = ""


class Authorizer:
    """The Authorization header for requests to one endpoint. Tokens are bought once a scope and again when they are spent."""

    def __init__(self, http: Http, credentials: Credentials, offline: bool = False) -> None:
        self._http = http
        self._credentials = credentials
        self._offline = offline  # ask for a refresh token too (login)
        self._challenge: Challenge | None = None
        self._tokens: dict[frozenset[str], Token] = {}
        self._lock = asyncio.Lock()

    @property
    def can_answer(self) -> bool:
        """Whether a challenge of a kind known here was seen."""
        return self._challenge is not None

    @property
    def refresh_token(self) -> str:
        return next((token.refresh for token in self._tokens.values() if token.refresh), "")

    def challenged(self, headers: Iterable[str]) -> None:
        """Take note of an answer's challenges; the one asked for first that this can answer counts."""
        known = [challenge for challenge in challenges(headers) if challenge.scheme in ("basic", "bearer")]
        self._challenge = known[0] if known else self._challenge

    async def header(self, scopes: frozenset[str]) -> str:
        """ "" when none is needed. Raises NoCredentials, Refused, Unreachable."""
        if self._challenge is None:
            return ""
        if self._challenge.scheme == "basic":
            return self._basic()
        return f"Bearer {await self._token(self._challenge, scopes)}"

    def spent(self, authorization: str) -> None:
        """The registry no longer takes this header."""
        self._tokens = {scopes: token for scopes, token in self._tokens.items() if f"Bearer {token.value}" != authorization}

    def _basic(self) -> str:
        if not self._credentials.username or not self._credentials.password:
            raise NoCredentials(NO_CREDENTIALS)
        return basic(self._credentials)

    async def _token(self, challenge: Challenge, scopes: frozenset[str]) -> str:
        if self._credentials.registry_token:
            return self._credentials.registry_token
        async with self._lock:
            token = self._tokens.get(scopes)
            if token is None or token.expires <= time.monotonic():
                token = self._tokens[scopes] = await self._buy(challenge.parameters, scopes)
            return token.value

    async def _buy(self, challenge: dict[str, str], scopes: frozenset[str]) -> Token:
        realm = challenge.get("realm", "")
        if not realm.startswith(("http://", "https://")):
            raise Refused(401, "UNAUTHORIZED", f"no usable token auth realm: {realm!r}")
        wanted = sorted({*scopes, *([challenge["scope"]] if not scopes and challenge.get("scope") else [])})
        service = challenge.get("service", "")
        buy = self._refresh if self._credentials.identity_token else self._ask
        async with self._http.send(buy(realm, service, wanted)) as response:
            raw = await self._http.json(response)
        value = raw.get("token") or raw.get("access_token")
        if not isinstance(value, str) or not value:
            raise Refused(401, "UNAUTHORIZED", "authorization server did not include a token in the response")
        lasting = raw.get("expires_in")
        seconds = max(lasting, _SHORTEST) if isinstance(lasting, int) else _SHORTEST
        return Token(value, time.monotonic() + seconds - _EARLY, str(raw.get("refresh_token") or ""))

    def _ask(self, realm: str, service: str, scopes: list[str]) -> Sent:
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        headers = {}
        if self._credentials.username and self._credentials.password:
            query.append(("account", self._credentials.username))
            headers["Authorization"] = basic(self._credentials)
        if self._offline:
            query += [("offline_token", "true"), ("client_id", CLIENT_ID)]
        return Sent("GET", realm, headers, query=tuple(query))

    def _refresh(self, realm: str, service: str, scopes: list[str]) -> Sent:
        """OAuth2 (RFC 6749, 6) as token servers take it."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._credentials.identity_token,
            "service": service,
            "client_id": CLIENT_ID,
            "scope": " ".join(scopes),
        }
        return Sent("POST", realm, {}, form=tuple(form.items()))


def basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _standard(text: str) -> str:
    """base64 of either alphabet in the standard one, padded."""
    text = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    return text + "=" * (-len(text) % 4)

"""The distribution protocol (OCI distribution spec 1.1), one request a method, to one endpoint with one client's credentials."""

import contextlib
import re
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

import aiohttp

from compat_engine.images.layers import digest_of
from compat_engine.images.records import Descriptor
from compat_engine.images.reference import is_digest
from compat_engine.images.registry.auth import Authorizer, Credentials
from compat_engine.images.registry.failures import NoCredentials, Refused, Unreachable, refusal
from compat_engine.images.registry.hosts import Endpoint
from compat_engine.images.registry.http import Http, Sent, body
from compat_engine.images.registry.manifest import ACCEPTED

_MANIFEST_LIMIT = 4 << 20  # bytes, as registries have it
_RANGE = re.compile(r"bytes (\d+)-")
_HELD = re.compile(r"(?:bytes=)?0-(\d+)")
_ANY = range(600)
PULL, PUSH = "pull", "pull,push"


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest's bytes, with the digest they have."""

    media_type: str
    content: bytes

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, digest_of(self.content), len(self.content))


class Client:
    """Requests to `endpoint`. Methods raise Refused, Unreachable and NoCredentials."""

    def __init__(self, http: Http, endpoint: Endpoint, credentials: Credentials, offline: bool = False) -> None:
        self.endpoint = endpoint
        self._http = http
        self._authorizer = Authorizer(http, credentials, offline)

    @property
    def refresh_token(self) -> str:
        return self._authorizer.refresh_token

    async def ping(self) -> None:
        """Finds out that something answers here, and how it wants to be asked; any status will do, as for Docker's engine."""
        sent = Sent("GET", f"{self.endpoint.base}/", dict(self.endpoint.headers), self.endpoint.tls, accepted=_ANY)
        async with self._http.send(sent) as response:
            if response.status == 401:
                self._authorizer.challenged(response.headers.getall("WWW-Authenticate", []))

    async def login(self) -> None:
        """The same with credentials. Raises Refused when they do not let in."""
        url = f"{self.endpoint.base}/"
        async with self._send(Sent("GET", url, accepted=_ANY), frozenset()) as response:
            if response.status != 200:
                reason = f"{response.status} {response.reason}"
                raise Refused(500, "", f"login attempt to {url} failed with status: {reason}")

    def repository(self, path: str, actions: str, *also: str) -> "Repository":
        """One repository; `also`: others that are read from."""
        scopes = [f"repository:{path}:{actions}", *(f"repository:{other}:{PULL}" for other in also)]
        return Repository(self, path, frozenset(scopes))

    @contextlib.asynccontextmanager
    async def _send(self, sent: Sent, scopes: frozenset[str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """With credentials, and with new ones once when the registry does not take them (any more)."""
        if not _same_origin(
            sent.url, self.endpoint.base
        ):  # an upload taken elsewhere: its address is all the permission it needs
            async with self._http.send(sent) as response:
                yield response
            return
        replayable = sent.body is None or isinstance(sent.body, bytes)
        endpoint = self.endpoint
        for last in (False, True):
            authorization = await self._header(sent, scopes)
            headers = {**dict(endpoint.headers), **sent.headers, **({"Authorization": authorization} if authorization else {})}
            whole = replace(sent, headers=headers, tls=endpoint.tls, accepted=_ANY)
            async with self._http.send(whole) as response:
                if response.status != 401 or last or not self._helps(response, authorization):
                    if response.status not in sent.accepted:
                        raise await refusal(response)
                    yield response
                    return
                if not replayable:
                    raise Unreachable("unauthorized: the registry's token ran out")

    def _helps(self, response: aiohttp.ClientResponse, authorization: str) -> bool:
        """Whether asking again may end better: not with the same name and password."""
        self._authorizer.challenged(response.headers.getall("WWW-Authenticate", []))
        self._authorizer.spent(authorization)
        return self._authorizer.can_answer and not authorization.startswith("Basic")

    async def _header(self, sent: Sent, scopes: frozenset[str]) -> str:
        try:
            return await self._authorizer.header(scopes)
        except NoCredentials as error:
            raise NoCredentials(_during(sent, error)) from None
        except Refused as error:  # by the token server
            raise Refused(error.status, error.code, _during(sent, error), error.retry_after) from error


def _same_origin(one: str, other: str) -> bool:
    return urlsplit(one)[:2] == urlsplit(other)[:2]


def _during(sent: Sent, error: Exception) -> str:
    return f'{sent.method.capitalize()} "{sent.url}": {error}'


class Repository:
    """One repository of a registry. Methods raise what `Client`'s do."""

    def __init__(self, client: Client, path: str, scopes: frozenset[str]) -> None:
        self._client = client
        self._scopes = scopes
        self._base = f"{client.endpoint.base}/{path}"
        self.path = path

    async def tags(self) -> list[str]:
        """All of them, however many answers the registry gives them in."""
        found: list[str] = []
        url = f"{self._base}/tags/list"
        while url:
            async with self._send(Sent("GET", url)) as response:
                found += [tag for tag in (await self._client._http.json(response)).get("tags") or [] if isinstance(tag, str)]
                following = response.links.get("next")
            url = urljoin(url, str(following["url"])) if following else ""
        return found

    async def resolve(self, name: str) -> str:
        """The digest of a manifest without its content, "" when the registry does not tell. Asking costs no pull of a quota."""
        try:
            async with self._send(Sent("HEAD", self._url("manifests", name), {"Accept": ACCEPTED})) as response:
                digest = response.headers.get("Docker-Content-Digest", "")
                return digest if is_digest(digest) else ""
        except Refused:  # without a body, it does not say why; the GET will
            return ""

    async def manifest(self, name: str) -> Found:
        """By tag or by digest; a digest is what the bytes have, or Refused is raised."""
        async with self._send(Sent("GET", self._url("manifests", name), {"Accept": ACCEPTED})) as response:
            found = Found(response.content_type, await body(response, _MANIFEST_LIMIT))
        if ":" in name and found.descriptor.digest != name:
            raise Refused(200, "", f"manifest verification failed for digest {name}")
        return found

    async def put_manifest(self, name: str, manifest: Found) -> None:
        headers = {"Content-Type": manifest.media_type}
        sent = Sent("PUT", self._url("manifests", name), headers, body=manifest.content, accepted=(200, 201, 202))
        async with self._send(sent):
            pass

    @contextlib.asynccontextmanager
    async def blob(self, digest: str, offset: int = 0) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """(where the bytes begin, the bytes): at `offset`, or at 0 when the registry does not do ranges."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._blob(digest, headers) as response:
            start = _RANGE.match(response.headers.get("Content-Range", "")) if response.status == 206 else None
            yield int(start[1]) if start else 0, response.content.iter_any()

    async def small_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """A configuration, verified."""
        async with self._blob(descriptor.digest, {}) as response:
            content = await body(response, limit)
        if digest_of(content) != descriptor.digest:
            raise Refused(200, "", f"image config verification failed for digest {descriptor.digest}")
        return content

    @contextlib.asynccontextmanager
    async def _blob(self, digest: str, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        sent = Sent("GET", self._url("blobs", digest), headers, accepted=(200, 206, 404))
        async with self._send(sent) as response:
            if response.status == 404:
                raise Refused(404, "BLOB_UNKNOWN", "unknown blob")
            yield response

    async def has(self, digest: str) -> bool:
        try:
            async with self._send(Sent("HEAD", self._url("blobs", digest))):
                return True
        except Refused as error:
            if error.status == 404:
                return False
            raise

    async def mount(self, digest: str, source: str) -> str:
        """Takes a blob over from another repository: "" when that worked, else where to upload it."""
        query = (("mount", digest), ("from", source))
        sent = Sent("POST", f"{self._base}/blobs/uploads/", query=query, accepted=(201, 202))
        async with self._send(sent) as response:
            return "" if response.status == 201 else self._location(response)

    async def start_upload(self) -> str:
        async with self._send(Sent("POST", f"{self._base}/blobs/uploads/", accepted=(202,))) as response:
            return self._location(response)

    async def held_upload(self, location: str) -> tuple[str, int]:
        """Where an upload that broke off goes on, and how many bytes are there. Raises Refused when the registry has none."""
        async with self._send(Sent("GET", location, accepted=(204,))) as response:
            held = _HELD.fullmatch(response.headers.get("Range", ""))
            if held is None:
                raise Refused(response.status, "", f"{response.url}: the registry does not tell what it has of the upload")
            last = int(held[1])
            return urljoin(location, response.headers.get("Location", "")), last + 1 if last else 0  # 0-0 stands for nothing

    async def upload(self, location: str, content: AsyncIterable[bytes], size: int | None, offset: int = 0) -> str:
        """Sends the bytes from `offset` on, chunked when the size of the whole is not known; where to finish."""
        headers = {"Content-Type": "application/octet-stream"}
        if size is not None:
            headers["Content-Length"] = str(size - offset)
        if size is not None and offset:
            headers["Content-Range"] = f"{offset}-{size - 1}"
        async with self._send(Sent("PATCH", location, headers, body=content, accepted=(202, 204))) as response:
            return self._location(response)

    async def finish_upload(self, location: str, digest: str, content: bytes = b"") -> None:
        """Names what was sent, `content` the last of it. Raises Refused when it is not that digest."""
        headers = {"Content-Type": "application/octet-stream"}
        sent = Sent("PUT", location, headers, query=(("digest", digest),), body=content, accepted=(201, 204))
        async with self._send(sent):
            pass

    def _url(self, kind: str, name: str) -> str:
        return f"{self._base}/{kind}/{name}"

    def _location(self, response: aiohttp.ClientResponse) -> str:
        location = response.headers.get("Location")
        if not location:
            raise Unreachable(f"{response.url}: the registry names no place for the upload")
        return urljoin(str(response.url), location)

    @contextlib.asynccontextmanager
    async def _send(self, sent: Sent) -> AsyncIterator[aiohttp.ClientResponse]:
        namespace = self._client.endpoint.namespace
        if namespace:
            sent = replace(sent, query=(*sent.query, ("ns", namespace)))
        async with self._client._send(sent, self._scopes) as response:
            yield response

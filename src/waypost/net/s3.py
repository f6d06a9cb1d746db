"""A bucket of an S3-compatible object store: objects are put, read as a stream, listed and deleted.

Four requests of a large interface, and the arithmetic of signing them (AWS Signature Version 4): the vendor's client
library would be some 20 MB for that. The store may be anybody's: MinIO, Ceph, Garage, a provider's, Amazon's.

What fails is a value that says what; a request that is safe to repeat is repeated where the store is in trouble (5yz,
no answer). Not here: what the objects mean.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit
from xml.etree import ElementTree as ET

import aiohttp
from yarl import URL

from waypost.net.bucket import Bucket, Keys
from waypost.net.clock import Clock, Instant

#: For a connection, and between two octets of an answer; a whole request may take as long as octets flow.
CONNECT: Final = 5.0
SILENCE: Final = 15.0
#: A request that failed is tried so often in all, after pauses that double.
TRIES: Final = 3
PAUSE: Final = timedelta(milliseconds=200)
#: Connections at once.
CONNECTIONS: Final = 32
#: Octets that are read at once.
BLOCK: Final = 256 * 1024
#: Octets of a list, or of what an error says, that are read.
_ANSWER: Final = 4 * 2**20
_SAID: Final = 300
_EMPTY: Final = hashlib.sha256(b"").hexdigest()


class S3Error(Exception):
    """The store did not do what was asked; the text names the object and what the store said."""


class NoSuchObjectError(S3Error):
    """There is no such object."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object there is; its name has no prefix."""

    name: str
    changed_at: Instant


def signed(
    method: str, url: str, headers: Mapping[str, str], payload: str, *, keys: Keys, region: str, at: Instant
) -> dict[str, str]:
    """The headers of a request, with its signature (AWS Signature Version 4). `payload`: its SHA-256 in hex."""
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    parts = urlsplit(url)
    own = {"host": parts.netloc, "x-amz-content-sha256": payload, "x-amz-date": stamp}
    session = {"x-amz-security-token": keys.session} if keys.session else {}
    all_ = {name.lower(): value.strip() for name, value in {**headers, **own, **session}.items()}
    names = ";".join(sorted(all_))
    query = "&".join(sorted(f"{_quoted(k)}={_quoted(v)}" for k, v in parse_qsl(parts.query, keep_blank_values=True)))
    lines = [method, parts.path or "/", query, *(f"{name}:{all_[name]}" for name in sorted(all_)), "", names, payload]
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = b"AWS4" + keys.secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    said = f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {name: value for name, value in all_.items() if name != "host"} | {"authorization": said}


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


class S3:
    """One bucket. Each method raises S3Error."""

    def __init__(self, bucket: Bucket, keys: Keys, clock: Clock) -> None:
        self.bucket = bucket
        self._keys = keys
        self._clock = clock
        self._sessions: list[aiohttp.ClientSession] = []  # at most one

    async def close(self) -> None:
        """Let go of all connections."""
        while self._sessions:
            await self._sessions.pop().close()

    async def put(self, name: str, octets: bytes) -> None:
        """Store an object, in place of one of the same name. When it returns, the store has it."""
        await self._asked("PUT", name, octets)

    async def delete(self, name: str) -> None:
        """Delete an object; one that is not there is deleted."""
        await self._asked("DELETE", name)

    async def get(self, name: str) -> AsyncIterator[bytes]:
        """The octets of an object, as they come. Raises: NoSuchObjectError."""
        async with self._begun("GET", self._url(name), b"") as answer:
            if answer.status != 200:
                raise await self._refusal(answer, f"{self.bucket}{name}")
            try:
                async for block in answer.content.iter_chunked(BLOCK):
                    yield block
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise self._lost(error, f"{self.bucket}{name}") from error

    async def listed(self, beginning: str = "") -> AsyncIterator[Sequence[Listed]]:
        """All objects whose names begin so, a thousand at a time."""
        token = ""
        while True:
            further = f"continuation-token={_quoted(token)}&" if token else ""
            url = f"{self.bucket.root}?{further}list-type=2&prefix={_quoted(self.bucket.prefix + beginning)}"
            found, token = _read_list(await self._requested("GET", url, b"", f"the list of {self.bucket}"), self.bucket)
            yield found
            if not token:
                return

    # ---- requests
    def _url(self, name: str) -> str:
        return self.bucket.root + quote(self.bucket.prefix + name, safe="/-_.~")

    async def _asked(self, method: str, name: str, octets: bytes = b"") -> None:
        await self._requested(method, self._url(name), octets, f"{self.bucket}{name}")

    async def _requested(self, method: str, url: str, octets: bytes, what: str) -> bytes:
        """The answer's octets; each of these requests may be repeated."""
        pause = PAUSE
        for left in reversed(range(TRIES)):
            try:
                return await self._once(method, url, octets, what)
            except _TroubleError as trouble:
                if not left:
                    raise S3Error(str(trouble)) from trouble
            await self._clock.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")

    async def _once(self, method: str, url: str, octets: bytes, what: str) -> bytes:
        async with self._begun(method, url, octets) as answer:
            if answer.status >= 300 and not (method == "DELETE" and answer.status == 404):
                raise await self._refusal(answer, what)
            try:
                return await _whole(answer)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise self._lost(error, what) from error

    @asynccontextmanager
    async def _begun(self, method: str, url: str, octets: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        payload = await asyncio.to_thread(_sha256, octets) if octets else _EMPTY
        headers = signed(method, url, {}, payload, keys=self._keys, region=self.bucket.region, at=self._clock.now())
        try:
            answer = await self._session().request(method, URL(url, encoded=True), data=octets or None, headers=headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._lost(error, url.partition("?")[0]) from error
        try:
            yield answer
        finally:
            answer.close()

    def _session(self) -> aiohttp.ClientSession:
        if not self._sessions:
            timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=SILENCE)
            connector = aiohttp.TCPConnector(limit=CONNECTIONS)
            self._sessions.append(aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False))
        return self._sessions[0]

    async def _refusal(self, answer: aiohttp.ClientResponse, what: str) -> S3Error:
        try:
            said = " ".join((await _whole(answer)).decode("utf-8", "replace").split())[:_SAID]
        except (aiohttp.ClientError, TimeoutError, OSError):
            said = ""
        text = f"{what}: the store answered {answer.status} {answer.reason}{': ' if said else ''}{said}"
        if answer.status == 404:
            return NoSuchObjectError(text)
        return _TroubleError(text) if answer.status >= 500 or answer.status == 429 else S3Error(text)

    def _lost(self, error: Exception, what: str) -> S3Error:
        return _TroubleError(f"{what}: {str(error) or type(error).__name__}")


class _TroubleError(S3Error):
    """The store is in trouble, or not to be reached: another try may find it well."""


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """All that was answered, as far as it is read."""
    octets = bytearray()
    async for block in answer.content.iter_chunked(BLOCK):
        octets += block
        if len(octets) > _ANSWER:
            break
    return bytes(octets)


def _sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def _read_list(octets: bytes, bucket: Bucket) -> tuple[Sequence[Listed], str]:
    """The objects of a page, and what the next page is asked by ("" at the end). Raises: S3Error."""
    try:
        root = ET.fromstring(octets)  # noqa: S314 - of a store that has our mail; expat bounds what entities blow up
        found = [
            Listed(_text(one, "Key").removeprefix(bucket.prefix), _instant(_text(one, "LastModified")))
            for one in root.findall("{*}Contents")
        ]
        return found, _text(root, "NextContinuationToken") if _text(root, "IsTruncated") == "true" else ""
    except (ET.ParseError, ValueError) as error:
        raise S3Error(f"the list of {bucket} is not understood: {error}") from error


def _text(element: ET.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""


def _instant(text: str) -> Instant:
    return datetime.fromisoformat(text).timestamp()

"""HTTPS as a client, for a file here and a report there: one request at a time, and what goes wrong is a value.

The certificate is verified, no redirection followed, octets and time are bounded. Not here: what the octets mean, and
the API that the service itself offers (waypost.admin).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final, Protocol, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from waypost.net.resolver import Addresses, Resolver

#: Octets of an answer's body that are read at once.
_BLOCK: Final = 16 * 1024


class HttpsTrouble(Enum):
    """Why there is no answer."""

    UNREACHABLE = "not reached"  # no address, no connection, or one that broke
    CERTIFICATE = "TLS failed"  # the certificate does not do, or no handshake came about
    TIMED_OUT = "timed out"
    TOO_LARGE = "too large"


@dataclass(frozen=True, slots=True)
class HttpsAnswer:
    """An answer, of whatever status. `media_type`: of Content-Type, in lower case, without its parameters."""

    status: int
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpsFailed:
    """There was none; `detail` quotes who said so."""

    trouble: HttpsTrouble
    detail: str

    def __str__(self) -> str:
        return f"{self.trouble.value} ({self.detail})"


HttpsResult: TypeAlias = HttpsAnswer | HttpsFailed


class Https(Protocol):
    """Where requests are made. `url` begins with `https://`; `limit` in octets of the answer's body."""

    async def get(self, url: str, *, limit: int, within: timedelta) -> HttpsResult: ...

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, limit: int, within: timedelta
    ) -> HttpsResult: ...


class AiohttpHttps:
    """Requests by aiohttp, each over a connection of its own: they are rare, and nothing is left open between them."""

    def __init__(self, resolver: Resolver, context: ssl.SSLContext) -> None:
        """`context` judges certificates; names are looked up by `resolver`, as all names of the service are."""
        self._resolver = resolver
        self._context = context

    async def get(self, url: str, *, limit: int, within: timedelta) -> HttpsResult:
        return await self._request("GET", url, b"", {}, limit, within)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, limit: int, within: timedelta
    ) -> HttpsResult:
        return await self._request("POST", url, body, headers, limit, within)

    async def _request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], limit: int, within: timedelta
    ) -> HttpsResult:
        if not url.startswith("https://"):
            return HttpsFailed(HttpsTrouble.UNREACHABLE, f"{url} is no https:// address")
        try:
            return await self._exchange(method, url, body, headers, limit, within)
        except TimeoutError:
            return HttpsFailed(HttpsTrouble.TIMED_OUT, f"no whole answer within {within.total_seconds():g} s")
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError) as error:
            return HttpsFailed(HttpsTrouble.CERTIFICATE, str(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return HttpsFailed(HttpsTrouble.UNREACHABLE, str(error))

    async def _exchange(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], limit: int, within: timedelta
    ) -> HttpsResult:
        connector = aiohttp.TCPConnector(
            resolver=Names(self._resolver), ssl=self._context, use_dns_cache=False, force_close=True
        )
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=within.total_seconds()),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"User-Agent": "Waypost"},
            ) as session,
            session.request(method, url, data=body or None, headers=headers, allow_redirects=False) as answer,
        ):
            octets = b""
            async for block in answer.content.iter_chunked(_BLOCK):
                octets += block
                if len(octets) > limit:
                    return HttpsFailed(HttpsTrouble.TOO_LARGE, f"its answer has more than {limit} octets")
            return HttpsAnswer(answer.status, answer.content_type.lower(), octets)


class Names(AbstractResolver):
    """Our resolver, as aiohttp wants it."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = await self._resolver.addresses(host)
        if not isinstance(answer, Addresses):
            raise OSError(getattr(answer, "detail", "") or f"{host} has no address")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer.addresses
            if family in {socket.AF_UNSPEC, socket.AF_INET6 if ":" in address else socket.AF_INET}
        ]

    async def close(self) -> None:
        """Nothing is held."""

"""An object store for tests: moto's server, which speaks S3, behind a door that can be made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

import aiohttp
from aiohttp import web
from moto.server import ThreadedMotoServer

from waypost.net.bucket import Keys, parse_bucket
from waypost.net.clock import Clock
from waypost.net.s3 import S3

KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


@cache
def moto() -> str:
    """The address of this session's server; it ends with the process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


@dataclass
class Door:
    """What stands between us and the store. `seen`: requests, "PUT /bucket/name"."""

    port: int = 0
    seen: list[str] = field(default_factory=list)
    #: Answer so many requests with 503 before one is let through.
    refuses: int = 0
    #: Pass so many requests on, and hang up in place of the answer.
    loses: int = 0
    #: Answer nothing until this is set.
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.rel_url}")
        await self.open.wait()
        if self.refuses:
            self.refuses -= 1
            return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")
        octets = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, moto() + str(request.rel_url), data=octets, headers=headers) as answer,
        ):
            said = await answer.read()
        if self.loses:
            self.loses -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=answer.status, body=said)

    def store(self, clock: Clock, bucket: str, prefix: str = "mail") -> S3:
        return S3(parse_bucket(f"s3://{bucket}/{prefix}?endpoint=http://127.0.0.1:{self.port}"), KEYS, clock)


@asynccontextmanager
async def door() -> AsyncIterator[Door]:
    one = Door()
    one.open.set()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{tail:.*}", one.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        one.port = runner.addresses[0][1]
        yield one
    finally:
        one.open.set()
        await runner.cleanup()


async def make_bucket(store: S3) -> None:
    """Make the bucket, which an administrator does."""
    await store._requested("PUT", store.bucket.root.rstrip("/"), b"", "the bucket")

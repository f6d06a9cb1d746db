"""How long an HTTP client may take: for its request's header, for its body, and between two requests.

Without this, whoever opens a connection and says nothing, or a letter a minute, holds it for an hour. Not here: what is
asked for (waypost.admin.http, waypost.receive.http).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from aiohttp import web

#: For a header to come whole, and between two requests of one connection: what others in the field give.
SILENCE: Final = timedelta(minutes=1)
#: For a body to come whole.
BODY: Final = timedelta(minutes=5)
#: Requests under way, once it is to stop.
ENDING: Final = timedelta(seconds=10)


def runner_of(
    application: web.Application, *, silence: timedelta = SILENCE, ending: timedelta = ENDING
) -> web.AppRunner:
    """What serves it, and cuts off who is silent, or has not said a whole header, for so long."""
    # aiohttp counts this from when the connection is made, and anew from each answer: no request, no connection.
    return web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=ending.total_seconds(),
        keepalive_timeout=silence.total_seconds(),
    )


async def body_of(request: web.Request, within: timedelta = BODY) -> bytes:
    """Its body, whole. Raises: web.HTTPException, for the client: 408 where it is slow, 413 where it is large."""
    try:
        async with asyncio.timeout(within.total_seconds()):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="the request's body came too slowly") from None

"""Opening connections to peers, and taking them into TLS.

Not here: which peer (waypost.route), or what is said to it (waypost.smtp).
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from typing import Protocol

from waypost.net.stream import Endpoint, Fault, FaultKind, Flushed, SocketStream, Stream, fault_of


class Dialer(Protocol):
    """Where connections come from; a test passes its own."""

    async def dial(self, endpoint: Endpoint, within: timedelta, source: str = "") -> Stream | Fault:
        """Connect to a numeric address (or to the Unix socket whose path is `endpoint.host`), or tell why not.

        `source`: the numeric address to come from; "": the system's choice.
        """
        ...

    async def start_tls(
        self, stream: Stream, context: ssl.SSLContext, server_name: str, within: timedelta
    ) -> Stream | Fault:
        """The client's handshake over `stream`; on a Fault the connection is gone.

        Octets the peer sent before the handshake, in clear, are a Fault of kind TLS: they must not be read as if TLS
        had protected them (RFC 3207 §4.2). `server_name` goes into SNI and is what `context` checks, if it checks.
        """
        ...


class AsyncioDialer:
    """Connects through the running event loop. IPv4, IPv6, Unix sockets."""

    async def dial(self, endpoint: Endpoint, within: timedelta, source: str = "") -> Stream | Fault:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within.total_seconds()):
                if endpoint.host.startswith("/"):
                    _, stream = await loop.create_unix_connection(lambda: SocketStream(loop), endpoint.host)
                else:
                    _, stream = await loop.create_connection(
                        lambda: SocketStream(loop),
                        endpoint.host,
                        endpoint.port,
                        local_addr=(source, 0) if source else None,
                    )
        except TimeoutError as error:
            if error.errno is None:
                return Fault(FaultKind.TIMED_OUT, f"no connection within {within.total_seconds():g} s")
            return fault_of(error)
        except (OSError, ValueError) as error:
            return fault_of(error)
        return stream

    async def start_tls(
        self, stream: Stream, context: ssl.SSLContext, server_name: str, within: timedelta
    ) -> Stream | Fault:
        if not isinstance(stream, SocketStream):
            stream.abort()
            return Fault(FaultKind.LOCAL, f"a {type(stream).__name__} cannot be taken into TLS")
        match await stream.start_tls(context, server_name, within):
            case Flushed():
                return stream
            case fault:
                return fault

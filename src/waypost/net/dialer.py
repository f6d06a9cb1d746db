"""Opening connections to peers.

INTERFACE SKETCH: the asyncio form is written by the author of net/.
"""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import Protocol

from waypost.net.stream import Endpoint, Fault, Stream


class Dialer(Protocol):
    """Where connections come from; a test passes its own."""

    async def dial(self, endpoint: Endpoint, within: timedelta) -> Stream | Fault:
        """Connect to a numeric address, or tell why not."""
        ...

    async def start_tls(
        self, stream: Stream, context: ssl.SSLContext, server_name: str, within: timedelta
    ) -> Stream | Fault:
        """The client's handshake over `stream`; on a Fault the connection is gone."""
        ...

"""From a Route to the hosts to try, in order (RFC 5321 §5.1). INTERFACE SKETCH for the author of route/."""

from __future__ import annotations

import random
from collections.abc import Set as AbstractSet

from waypost.net.resolver import Resolver
from waypost.route.route import HostsAnswer, LmtpServers, SmtpMx, SmtpServers


class HostFinder:
    """Resolves names, orders hosts, removes ourselves. Answers come from the resolver's cache while their TTL lasts."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        own_names: AbstractSet[str],
        own_addresses: AbstractSet[str],
        own_ports: AbstractSet[int],
        dice: random.Random,
    ) -> None:
        raise NotImplementedError

    async def hosts(self, transport: SmtpServers | SmtpMx | LmtpServers) -> HostsAnswer:
        """The addresses to try. NoSuchHost: permanent; DnsFailed: later."""
        raise NotImplementedError

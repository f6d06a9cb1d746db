"""A resolver whose answers the test writes down."""

from __future__ import annotations

from collections.abc import Mapping

from waypost.net.resolver import AddressAnswer, MxAnswer, NoSuchName


class WrittenResolver:
    """Answers what the test wrote down; any other name does not exist."""

    def __init__(self, mx: Mapping[str, MxAnswer], addresses: Mapping[str, AddressAnswer]) -> None:
        self._mx, self._addresses = mx, addresses
        self.asked: list[str] = []

    async def mx(self, domain: str) -> MxAnswer:
        self.asked.append(domain)
        return self._mx.get(domain, NoSuchName())

    async def addresses(self, host: str) -> AddressAnswer:
        self.asked.append(host)
        return self._addresses.get(host, NoSuchName())

"""A resolver whose answers the test writes down."""

from __future__ import annotations

from collections.abc import Mapping

from waypost.net.resolver import AddressAnswer, AliasAnswer, MxAnswer, NoSuchName, TextAnswer, TlsaAnswer


class WrittenResolver:
    """Answers what the test wrote down; any other name does not exist."""

    def __init__(
        self,
        mx: Mapping[str, MxAnswer],
        addresses: Mapping[str, AddressAnswer],
        *,
        tlsa: Mapping[str, TlsaAnswer] | None = None,
        texts: Mapping[str, TextAnswer] | None = None,
        aliases: Mapping[str, AliasAnswer] | None = None,
    ) -> None:
        self._mx, self._addresses = mx, addresses
        self._tlsa, self._texts, self._aliases = tlsa or {}, texts or {}, aliases or {}
        self.asked: list[str] = []

    async def mx(self, domain: str) -> MxAnswer:
        self.asked.append(domain)
        return self._mx.get(domain, NoSuchName())

    async def addresses(self, host: str) -> AddressAnswer:
        self.asked.append(host)
        return self._addresses.get(host, NoSuchName())

    async def tlsa(self, name: str) -> TlsaAnswer:
        self.asked.append(name)
        return self._tlsa.get(name, NoSuchName())

    async def texts(self, name: str) -> TextAnswer:
        self.asked.append(name)
        return self._texts.get(name, NoSuchName())

    async def alias(self, name: str) -> AliasAnswer:
        self.asked.append(name)
        return self._aliases.get(name, NoSuchName())

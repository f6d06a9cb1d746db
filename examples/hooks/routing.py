"""The custom routing module of 1999, as a hook: a table says by which route a sender's or recipient's mail goes.

Settings: `by_sender` and `by_recipient`, tables of address or domain → name of a route; `refuse`, a list of domains.
The longest match wins: an address, then its domain, then the domains above.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from waypost.hooks import Pass, RcptTo, Refuse, Routing, Via

SENDERS: dict[str, str] = {}
RECIPIENTS: dict[str, str] = {}
REFUSED: set[str] = set()


def configure(settings: Mapping[str, object]) -> None:
    """Take over what the configuration says."""
    for table, key in ((SENDERS, "by_sender"), (RECIPIENTS, "by_recipient")):
        table.clear()
        entries = settings.get(key, {})
        if isinstance(entries, dict):
            table.update({str(name).lower(): str(route) for name, route in entries.items()})
    refused = settings.get("refuse", ())
    REFUSED.clear()
    if isinstance(refused, list | tuple):
        REFUSED.update(str(name).lower() for name in refused)


async def rcpt(event: RcptTo) -> Pass | Refuse:
    """Refuse who is on the list, while the client is there to be told."""
    if any(name in REFUSED for name in _names(str(event.forward_path))):
        return Refuse(f"no mail for <{event.forward_path}> goes through here")
    return Pass()


async def route(event: Routing) -> Pass | Via:
    """The recipient's route, else the sender's, else the one there is."""
    for table, address in ((RECIPIENTS, event.forward_path), (SENDERS, event.reverse_path)):
        for name in _names(str(address)):
            if name in table:
                return Via(table[name])
    return Pass()


def _names(address: str) -> Iterator[str]:
    """`ann@a.b.example`, `a.b.example`, `b.example`, `example`."""
    address = address.lower()
    yield address
    domain = address.rpartition("@")[2]
    while domain:
        yield domain
        domain = domain.partition(".")[2]

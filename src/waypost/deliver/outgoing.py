"""A lease as it leaves: with the addresses that its route wants in envelope and header. The queue keeps the original.

Memory does not grow with the message: the header section is read, the rest follows as it is stored. Not here: which
address becomes which (waypost.policy.rewriting).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final

from waypost.mail.envelope import InMemory, Octets
from waypost.mail.header import ends_header, header_of
from waypost.net.clock import Clock
from waypost.policy.rewriting import Rewriting
from waypost.queue.storage import Lease

#: A header section that is rewritten has so many octets at most; a larger one goes as it is.
LARGEST: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reheaded:
    """`head` in place of the first `skip` octets of `rest`."""

    head: bytes
    skip: int
    rest: Octets

    @property
    def size(self) -> int:
        return len(self.head) + self.rest.size - self.skip

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.head
        skip = self.skip
        async for chunk in self.rest:
            if skip < len(chunk):
                yield chunk[skip:]
            skip = max(0, skip - len(chunk))


async def outgoing(lease: Lease, rewriting: Rewriting, clock: Clock) -> Lease:
    """The lease with other addresses. Raises: RewritingError, StorageError."""
    path = await rewriting.reverse_path(lease.message.reverse_path, clock.now())
    octets = await _rewritten(lease.octets, rewriting)
    return replace(lease, message=replace(lease.message, reverse_path=path), octets=octets)


async def _rewritten(octets: Octets, rewriting: Rewriting) -> Octets:
    begun = octets.octets if isinstance(octets, InMemory) else await _beginning(octets)
    header = header_of(begun)
    if len(header) > LARGEST:
        return octets
    changed = await rewriting.header(header)
    if changed == header:
        return octets
    if isinstance(octets, InMemory):
        return InMemory(changed + octets.octets[len(header) :])
    return Reheaded(changed, len(header), octets)


async def _beginning(octets: Octets) -> bytes:
    """The octets up to the end of the header section, or somewhat more."""
    begun = b""
    async for chunk in octets:
        begun += chunk
        if ends_header(begun) or len(begun) > LARGEST:
            break
    return begun

"""A leased message as its route wishes its content; or that it is suppressed, being an automatic reply.

What changes is written down in the attempt's transcript, and so in the history. What is too large stays as it came. Not
here: how content is changed (waypost.mail.content), and which route wishes what (config/).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from waypost.mail.content import Content, automatic_reply, make_over
from waypost.mail.envelope import InMemory
from waypost.mail.header import header_of
from waypost.queue.storage import Lease

#: Octets of a message that is made over; a larger one would hold too much memory, several times itself.
MOST: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Suppressed:
    """It is not sent on; `why` is a clause."""

    why: str


@dataclass(frozen=True, slots=True)
class Ready:
    """It goes on, with what was done to it, a sentence each."""

    lease: Lease
    notes: tuple[str, ...] = ()


Prepared: TypeAlias = Suppressed | Ready


async def prepare(lease: Lease, content: Content) -> Prepared:
    """The lease to deliver. Raises: StorageError, where the spool cannot be read."""
    if lease.octets.size > MOST:
        return Ready(lease, (f"left as it came: more than {MOST >> 20} MiB are not made over",))
    octets = b"".join([chunk async for chunk in lease.octets])
    if content.suppresses_replies and (why := automatic_reply(header_of(octets))):
        return Suppressed(why)
    if not content.wishes:
        return Ready(lease)
    made = await asyncio.to_thread(make_over, octets, content.wishes)
    if made.octets is octets:
        return Ready(lease, made.notes)
    message = replace(lease.message, size=len(made.octets))
    return Ready(replace(lease, octets=InMemory(made.octets), message=message), made.notes)

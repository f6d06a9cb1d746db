"""Where administrators' questions are put: what can be asked and done, whoever answers.

operations/ answers at the source, client.py passes the question on to the running service, and together.py asks all
workers. What is asked and told are the values of answers.py.
"""

from __future__ import annotations

from typing import Protocol

from waypost.admin.answers import (
    ActBody,
    Acted,
    BinPage,
    CapturedDetail,
    Cleared,
    Destinations,
    Expiries,
    FreezeBody,
    Froze,
    InboxPage,
    Preview,
    Proposal,
    QueuedDetail,
    QueuePage,
    Reloaded,
    Resolution,
    Revisions,
    RevisionText,
    Status,
    Traces,
    WatchBody,
    WatchedPeers,
    Why,
)
from waypost.admin.explanation import Explanation, Question
from waypost.queue.storage import Search, Selection


class Desk(Protocol):
    """Where questions are put. Raises throughout: OperationError."""

    async def status(self) -> Status: ...

    async def queue(self, selection: Selection, *, after: str = "", limit: int = 100) -> QueuePage: ...

    async def show(self, id: str) -> QueuedDetail: ...  # noqa: A002 - the field's own name

    async def act(self, action: str, body: ActBody) -> Acted:
        """`action` is one of ACTIONS. `everything`: an empty selection is meant to be all."""
        ...

    async def why(self, asked: str, *, limit: int = 100) -> Why:
        """Why mail waits: of a message id, a domain, an address or a next hop."""
        ...

    async def bin(self, selection: Selection, *, after: str = "", limit: int = 100) -> BinPage: ...

    async def restore(self, body: ActBody) -> Acted:
        """Bring back from the bin what is selected."""
        ...

    async def frozen(self) -> Froze: ...

    async def freeze(self, body: FreezeBody) -> Froze: ...

    async def thaw(self, body: FreezeBody) -> Froze: ...

    async def quarantine(self) -> QueuePage:
        """What is held in quarantine, oldest first; it is released and deleted by `act`."""
        ...

    async def octets(self, id: str) -> bytes:  # noqa: A002 - the field's own name
        """A message in the queue, whole."""
        ...

    async def destinations(self, *, limit: int = 100) -> Destinations: ...

    async def expiries(self) -> Expiries:
        """Certificates and authorisations that its processes hold, what ends first first."""
        ...

    async def trace(self, asked: str, *, limit: int = 10) -> Traces:
        """By message id, or by the address it is from or to."""
        ...

    async def search(self, search: Search, *, before: str = "", limit: int = 10) -> Traces:
        """Lives of messages that fit, newest first; `next` is where to search on."""
        ...

    async def resolve(self, domain: str) -> Resolution: ...

    async def explain(self, question: Question) -> Explanation:
        """What would become of such a message. Nothing is sent."""
        ...

    async def inbox(self, *, before: int = 0, limit: int = 50) -> InboxPage: ...

    async def captured(self, number: int) -> CapturedDetail: ...

    async def captured_octets(self, number: int) -> bytes: ...

    async def reload(self, *, by: str) -> Reloaded:
        """Read the configuration's file anew and put it in force, whole or not at all."""
        ...

    async def preview(self, proposal: Proposal) -> Preview:
        """What a configuration would do to what waits and to the traffic there was. Nothing changes."""
        ...

    async def revisions(self) -> Revisions: ...

    async def revision(self, id: str) -> RevisionText: ...  # noqa: A002 - the field's own name

    async def watched(self) -> WatchedPeers: ...

    async def watch(self, body: WatchBody) -> WatchedPeers:
        """Log the dialogues with a peer for a while, or stop."""
        ...

    async def clear_inbox(self, *, keep: int) -> Cleared:
        """Drop all but the newest `keep` captured messages."""
        ...

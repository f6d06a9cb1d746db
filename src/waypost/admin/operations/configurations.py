"""Configurations beside the one in force: what another would do, and those that were.

Not here: putting one in force (app/renewal.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from waypost.admin import revisions
from waypost.admin.answers import FailureKind, OperationError, Preview, Proposal, Revisions, RevisionText
from waypost.admin.operations.questions import storage_trouble
from waypost.admin.preview import preview
from waypost.config import Config
from waypost.net.clock import Clock
from waypost.queue.shelf import Absent
from waypost.queue.storage import Storage


@dataclass(frozen=True, slots=True)
class Configurations:
    """Compares with `config`, which is in force."""

    config: Config
    storage: Storage
    clock: Clock

    async def preview(self, proposal: Proposal) -> Preview:
        """What it would do to what waits, and to the traffic there was."""
        with storage_trouble():
            return await preview(proposal, self.config, self.storage, now=self.clock.now())

    async def revisions(self) -> Revisions:
        """Those that are kept."""
        with storage_trouble():
            return Revisions(tuple(await revisions.revisions(self.storage, now=self.clock.now())))

    async def revision(self, id: str) -> RevisionText:  # noqa: A002 - the field's own name
        """One of them."""
        with storage_trouble():
            text = await revisions.text_of(self.storage, id, now=self.clock.now())
        if isinstance(text, Absent):
            raise OperationError(
                FailureKind.NOT_FOUND, f"no revision {id} is kept", "list those there are: waypost config history"
            )
        return RevisionText(id, text)

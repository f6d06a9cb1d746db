"""A copy of every message from or to some domains, into a journal, as the journal sample of 1999 made.

`[[copy]]` in the configuration does this without any code; begin here where a rule of yours says what is journalled.
Nobody sees the journal: its header must not name the recipients either, some of whom may be there by Bcc.
Settings: `to`, the journal's mailbox; `domains`, a list.
"""

from __future__ import annotations

from collections.abc import Mapping

from waypost.hooks import Change, Data, Pass
from waypost.smtp.path import Mailbox, NullPath, parse_mailbox

JOURNALS: list[Mailbox] = []
DOMAINS: set[str] = set()


def configure(settings: Mapping[str, object]) -> None:
    """Take over what the configuration says."""
    JOURNALS[:] = [parse_mailbox(str(settings["to"]))]
    domains = settings.get("domains", ())
    DOMAINS.clear()
    if isinstance(domains, list | tuple):
        DOMAINS.update(str(domain).lower() for domain in domains)


async def data(event: Data) -> Pass | Change:
    """Add the journal to the recipients; a report is never journalled, or one on a copy would make another."""
    if isinstance(event.reverse_path, NullPath):
        return Pass()
    parties = (event.reverse_path, *event.recipients)
    if not any(isinstance(each, Mailbox) and str(each.domain).lower() in DOMAINS for each in parties):
        return Pass()
    return Change(also=tuple(JOURNALS))

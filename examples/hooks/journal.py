"""A copy of every message from or to some domains, into a journal, as the journal sample of 1999 made.

For who only wants copies, `[[copy]]` in the configuration does the same without any code. This one also says in the
header who was meant, which `[[copy]]` does not. Settings: `to`, the journal's mailbox; `domains`, a list.
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
    DOMAINS.update(str(domain).lower() for domain in domains if domains) if isinstance(domains, list | tuple) else None


async def data(event: Data) -> Pass | Change:
    """Add the journal to the recipients; a report is never journalled, or one on a copy would make another."""
    if isinstance(event.reverse_path, NullPath):
        return Pass()
    parties = (event.reverse_path, *event.recipients)
    if not any(isinstance(each, Mailbox) and str(each.domain).lower() in DOMAINS for each in parties):
        return Pass()
    meant = ", ".join(str(each) for each in event.recipients)
    return Change(also=tuple(JOURNALS), add=(("X-Journal-For", meant),))

"""`waypost trace`: the lives of messages, by id, by address, or by whatever is known of them.

Not here: how they are found (queue/searching.py), and how they are worded (words.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from waypost.admin import words
from waypost.admin.answers import Traces
from waypost.admin.desk import Desk
from waypost.admin.options import spread
from waypost.admin.terminal import DomainOption, Whom, ago, fail
from waypost.queue.storage import Search

_OUTCOMES = ("delivered", "deferred", "rejected", "in doubt")


@spread
def trace(
    asked: Annotated[str, typer.Argument(metavar="[ID|ADDRESS]", help="A message's id, or who it is from or to.")] = "",
    domain: DomainOption = "",
    message_id: Annotated[str, typer.Option("--message-id", help="The header's Message-ID.")] = "",
    next_hop: Annotated[str, typer.Option("--next-hop", help="Tried at this next hop.")] = "",
    outcome: Annotated[str, typer.Option("--outcome", help='delivered, deferred, rejected or "in doubt".')] = "",
    text: Annotated[str, typer.Option("--text", help="Part of what a host replied, in any case.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="Received no longer ago, as 2h or 3d.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Received longer ago.")] = "",
    before: Annotated[str, typer.Option("--before", metavar="ID", help="Older than this message.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="At most so many messages.")] = 10,
    *,
    whom: Whom,
) -> None:
    """Tell the whole life of a message.

    Receipt, each attempt with its dialogue, reports, operators' acts, and what became of each recipient. Without an id:
    of all that fit what is given, newest first, in the queue or done.

    Example: waypost trace --text greylist --domain example.com --since 2h
    """
    if outcome and outcome not in _OUTCOMES:
        fail(f"no outcome is {outcome!r}", f"it is one of {', '.join(_OUTCOMES)}", as_json_value=whom.json, code=2)
    wanted = Search(
        "",
        domain,
        message_id,
        next_hop,
        outcome,
        text,
        ago(since, json=whom.json) if since else 0.0,
        ago(until, json=whom.json) if until else 0.0,
    )
    if not asked and wanted == Search():
        fail(
            "nothing is asked for",
            "give an id, an address, or an option such as --text",
            as_json_value=whom.json,
            code=2,
        )
    desk = whom.context
    if wanted == Search():
        whom.show(desk.answer(lambda found: found.trace(asked, limit=limit)), words.traces)
        return
    if asked and "@" not in asked:
        fail(f"{asked} is one message already", "leave the other options out", as_json_value=whom.json, code=2)
    wanted = replace(wanted, address=asked.strip("<>"))
    answer = desk.answer(lambda found: _search(found, wanted, before, limit))
    whom.show(answer, words.traces)
    raise typer.Exit(0 if answer.traces else 1)


async def _search(desk: Desk, wanted: Search, before: str, limit: int) -> Traces:
    """As many as are wanted, however much history has to be looked through; each answer comes of a part of it."""
    found = await desk.search(wanted, before=before, limit=limit)
    while found.next and len(found.traces) < limit:
        more = await desk.search(wanted, before=found.next, limit=limit - len(found.traces))
        found = replace(more, traces=(*found.traces, *more.traces))
    return found

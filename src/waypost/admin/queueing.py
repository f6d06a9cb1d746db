"""`waypost queue`: see and change what waits, ask why, and bring back what was taken out.

What changes the queue takes the same filters everywhere, can be counted first (`--dry-run`), and is written down with
who did it and why. Not here: what is done (operations/), and how it is worded (words.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Final

import typer
from rich.text import Text

from waypost.admin import words
from waypost.admin.answers import ActBody, Acted, FreezeBody, QueuePage
from waypost.admin.archiving import export_queue, import_queue
from waypost.admin.desk import Desk
from waypost.admin.options import spread
from waypost.admin.terminal import (
    AddressOption,
    AllOption,
    Context,
    DomainOption,
    IdOption,
    NextHopOption,
    Whom,
    ago,
    by_whom,
    err,
    fail,
    show,
)
from waypost.mail.envelope import MessageId
from waypost.queue.frost import ROUTE
from waypost.queue.storage import Selection

#: Recipients that are changed before a progress bar moves; what is less is done at once.
SLICE: Final = 1000

StateOption = Annotated[str, typer.Option("--state", help='Only due, waiting, held or "in delivery".')]
TextOption = Annotated[str, typer.Option("--text", help="Whose last outcome, or reason for being held, contains this.")]
OlderOption = Annotated[str, typer.Option("--older-than", metavar="TIME", help="Received longer ago, as 2h or 3d.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; the history keeps it, a bounce tells it.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Change nothing; say how many it would be.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many recipients.")]
AfterOption = Annotated[str, typer.Option("--after", help="Those after this place; the answer's end names it.")]
PlaceArgument = Annotated[str, typer.Argument(metavar="NEXT_HOP|ROUTE", help="As `queue destinations` names it.")]


@dataclass(frozen=True, slots=True)
class Some:
    """Options: which recipients are meant, in the queue or in the bin; each narrows."""

    id: IdOption = None
    address: AddressOption = ""
    domain: DomainOption = ""
    next_hop: NextHopOption = ""

    @property
    def ids(self) -> tuple[MessageId, ...]:
        """All that were given."""
        return tuple(map(MessageId, self.id or ()))


@dataclass(frozen=True, slots=True)
class Which(Some):
    """Options: the same of the queue alone, where more is known of them."""

    state: StateOption = ""
    text: TextOption = ""
    older_than: OlderOption = ""

    def selection(self, *, json: bool) -> Selection:
        """What they come to."""
        before = ago(self.older_than, json=json) if self.older_than else 0.0
        return Selection(self.ids, self.address, self.domain, self.next_hop, self.state, self.text, before)


@dataclass(frozen=True, slots=True)
class Deed:
    """Options: how something is done to them."""

    everything: AllOption = False
    reason: ReasonOption = ""
    dry_run: DryRunOption = False


# ---- seeing
@spread
def queue_list(which: Which, *, limit: LimitOption = 100, after: AfterOption = "", whom: Whom) -> None:
    """List the recipients that wait, each with what came of it so far.

    Example: waypost queue list --domain example.com --text greylist
    """
    wanted = which.selection(json=whom.json)
    whom.show(whom.context.answer(lambda found: _page(found, wanted, after, limit)), words.queue)


@spread
def queue_show(
    id: Annotated[str, typer.Argument(help="The message's id.", metavar="ID")],  # noqa: A002
    whom: Whom,
) -> None:
    """Show one message in the queue: envelope, recipients, header.

    Example: waypost queue show 1dvq3kbaxm00g
    """
    whom.show(whom.context.answer(lambda found: found.show(id)), words.queued)


@spread
def queue_why(
    asked_about: Annotated[
        str, typer.Argument(metavar="ID|DOMAIN|ADDRESS|NEXT_HOP", help="What waits, or what it waits for.")
    ],
    *,
    limit: LimitOption = 20,
    whom: Whom,
) -> None:
    """Say why mail waits, and when that ends.

    For each recipient the one thing it waits for, and what to do. Then of each destination it waits for: what it is
    doing, its last replies, how many succeeded, when it is tried next. Exit code 1: nothing waits.

    Example: waypost queue why example.com
    """
    whom.show(whom.context.answer(lambda found: found.why(asked_about, limit=limit)), words.why)


@spread
def queue_destinations(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many next hops.")] = 100,
    whom: Whom,
) -> None:
    """Show what each next hop is doing, those in trouble first.

    What waits in memory, which attempts run, and where nothing is tried for a while, why and until when.

    Example: waypost queue destinations
    """
    whom.show(whom.context.answer(lambda found: found.destinations(limit=limit)), words.destinations)


# ---- changing
@spread
def queue_retry(which: Which, deed: Deed, whom: Whom) -> None:
    """Try waiting recipients now, whatever rests.

    Example: waypost queue retry --domain example.com
    """
    _act("retry", _body(which, deed, json=whom.json), whom.context)


@spread
def queue_hold(which: Which, deed: Deed, whom: Whom) -> None:
    """Set recipients aside: they are not tried until released.

    Example: waypost queue hold --domain example.com --reason "moving house"
    """
    _act("hold", _body(which, deed, json=whom.json), whom.context)


@spread
def queue_release(which: Which, deed: Deed, whom: Whom) -> None:
    """Let held recipients be tried again, now.

    Example: waypost queue release --domain example.com
    """
    _act("release", _body(which, deed, json=whom.json), whom.context)


@spread
def queue_reroute(
    which: Which,
    *,
    to: Annotated[str, typer.Option("--to", metavar="NEXT_HOP|ROUTE", help="Where they are to go.")] = "",
    deed: Deed,
    whom: Whom,
) -> None:
    """Let recipients go another way, now, and stay on it.

    The way is one that a route leads to: a next hop as `queue destinations` names it, or a [[route]] by its name, for
    which one without domains will do.

    Example: waypost queue reroute --domain example.com --to spare
    """
    _act("reroute", replace(_body(which, deed, json=whom.json), to=to), whom.context)


@spread
def queue_bounce(which: Which, deed: Deed, *, yes: YesOption = False, whom: Whom) -> None:
    """Give recipients up, with a report to their authors that says why.

    The bin keeps them for a while. Who said NOTIFY=NEVER is not told.

    Example: waypost queue bounce --domain example.com --reason "this domain is gone" --yes
    """
    _act("bounce", _body(which, deed, json=whom.json), whom.context, yes=yes)


@spread
def queue_delete(which: Which, deed: Deed, *, yes: YesOption = False, whom: Whom) -> None:
    """Delete recipients from the queue, without a report.

    The bin keeps them for a while.

    Example: waypost queue delete --id 1dvq3kbaxm00g --yes
    """
    _act("delete", _body(which, deed, json=whom.json), whom.context, yes=yes)


# ---- the bin
@spread
def queue_bin(some: Some, *, limit: LimitOption = 100, after: AfterOption = "", whom: Whom) -> None:
    """List what was deleted or bounced, and can be brought back.

    Example: waypost queue bin
    """
    wanted = Selection(some.ids, some.address, some.domain, some.next_hop)
    whom.show(whom.context.answer(lambda found: found.bin(wanted, after=after, limit=limit)), words.binned)


@spread
def queue_restore(
    some: Some,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All that is in the bin is meant.")] = False,
    reason: ReasonOption = "",
    whom: Whom,
) -> None:
    """Bring deleted or bounced recipients back; they are due at once.

    Example: waypost queue restore --id 1dvq3kbaxm00g
    """
    body = ActBody(
        some.ids, some.address, some.domain, some.next_hop, everything=everything, by=by_whom(), reason=reason
    )
    told(whom.context.answer(lambda found: found.restore(body)), json=whom.json)


# ---- frost
@spread
def queue_freeze(place: PlaceArgument, *, reason: ReasonOption = "", whom: Whom) -> None:
    """Try nothing at a next hop or route until it is thawed.

    Nothing is given up there either. It outlasts a restart. Attempts under way end as they would have.

    Example: waypost queue freeze smtp://inner.example.com:25 --reason "disk full there"
    """
    body = FreezeBody(_place(place), by_whom(), reason)
    whom.show(whom.context.answer(lambda found: found.freeze(body)), words.frozen)


@spread
def queue_thaw(place: PlaceArgument, *, reason: ReasonOption = "", whom: Whom) -> None:
    """Let a frozen next hop or route be tried again, now.

    Example: waypost queue thaw smtp://inner.example.com:25
    """
    body = FreezeBody(_place(place), by_whom(), reason)
    whom.show(whom.context.answer(lambda found: found.thaw(body)), words.frozen)


@spread
def queue_frozen(whom: Whom) -> None:
    """List what is frozen, by whom and why.

    Example: waypost queue frozen
    """
    whom.show(whom.context.answer(lambda found: found.frozen()), words.frozen)


def _place(text: str) -> str:
    """A next hop has a colon in it, and a route's name stands behind its word."""
    return text if ":" in text or text.startswith(ROUTE) else ROUTE + text


# ---- what they share
def _body(which: Which, deed: Deed, *, json: bool) -> ActBody:
    """What the options say, and who asks."""
    chosen = which.selection(json=json)
    return ActBody(
        chosen.ids,
        chosen.address,
        chosen.domain,
        chosen.next_hop,
        chosen.state,
        chosen.text,
        chosen.received_before,
        everything=deed.everything,
        by=by_whom(),
        reason=deed.reason,
        dry_run=deed.dry_run,
    )


_DONE: Final = {
    "retry": "due now",
    "delete": "in the bin",
    "hold": "held",
    "release": "released",
    "bounce": "bounced, and in the bin",
    "reroute": "rerouted",
    "restore": "back in the queue",
}


def _act(action: str, body: ActBody, asked: Context, *, yes: bool = True) -> None:
    """Ask where that is due, do it, say how many; exit code 1 where there was nothing to do."""
    if not (yes or body.dry_run):
        _agree(action, body, asked)
    told(asked.answer(lambda desk: _in_slices(desk, action, body)), json=asked.json)


async def _page(desk: Desk, wanted: Selection, after: str, limit: int) -> QueuePage:
    """A page, however long the queue has to be looked through for it; each answer comes of a part of it."""
    page = await desk.queue(wanted, after=after, limit=limit)
    while page.next and len(page.entries) < limit:
        more = await desk.queue(wanted, after=page.next, limit=limit - len(page.entries))
        page = QueuePage((*page.entries, *more.entries), more.next)
    return page


async def _in_slices(desk: Desk, action: str, body: ActBody) -> Acted:
    """All of it: at once, where it is little and soon counted; else a slice at a time, and a person sees how far."""
    first = await desk.act(action, replace(body, dry_run=True, limit=SLICE))
    if not first.next and (body.dry_run or first.recipients <= SLICE):
        return first if body.dry_run else await desk.act(action, body)
    return await _with_bar(desk, action, body)


async def _with_bar(desk: Desk, action: str, body: ActBody) -> Acted:
    from rich.progress import (  # noqa: PLC0415 - seldom wanted, and a tenth of what starting takes
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True) as progress:
        counting = progress.add_task("count", total=None)
        counted = await _slices(desk, action, replace(body, dry_run=True), partial(progress.advance, counting))
        if body.dry_run:
            return counted
        progress.remove_task(counting)
        doing = progress.add_task(action, total=counted.recipients)
        return await _slices(desk, action, body, partial(progress.advance, doing))


async def _slices(desk: Desk, action: str, body: ActBody, advance: Callable[[float], None]) -> Acted:
    total, after = 0, ""
    while True:
        acted = await desk.act(action, replace(body, after=after, limit=SLICE))
        total, after = total + acted.recipients, acted.next
        advance(acted.recipients)
        if not after:
            return replace(acted, recipients=total)


def _agree(action: str, body: ActBody, asked: Context) -> None:
    """Go on only where a person agrees."""
    if asked.json:
        fail(f"with --json nothing is asked, so nothing was done ({action})", "give --yes", as_json_value=True, code=2)
    if not body.everything and body.selection == Selection():
        return  # the service refuses that, in its own words
    count = asked.answer(lambda desk: _in_slices(desk, action, replace(body, dry_run=True))).recipients
    if count and not _agreed(f"{action.capitalize()} {words.counted(count, 'recipient')}?"):
        fail("nothing was done", "answer y, or give --yes")


def _agreed(question: str) -> bool:
    """Whether a person said yes; whoever cannot answer did not."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        typer.echo(err=True)  # the end of the line on which nothing was answered
        return False


def told(acted: Acted, *, json: bool) -> None:
    """Say how many; exit code 1 where there was nothing to do."""
    show(acted, lambda done: [Text(_done(done))], as_json_value=json)
    raise typer.Exit(0 if acted.recipients else 1)


def _done(acted: Acted) -> str:
    if acted.dry_run:
        return f"{acted.action} would be done to {words.counted(acted.recipients, 'recipient')}; nothing was changed."
    is_or_are = "is" if acted.recipients == 1 else "are"
    return f"{words.counted(acted.recipients, 'recipient')} {is_or_are} {_DONE[acted.action]}."


def queue_commands() -> typer.Typer:
    """The group `waypost queue`."""
    app = typer.Typer(help="See and change what waits.", no_args_is_help=True)
    app.command("list")(queue_list)
    app.command("show")(queue_show)
    app.command("why")(queue_why)
    app.command("destinations")(queue_destinations)
    app.command("retry")(queue_retry)
    app.command("hold")(queue_hold)
    app.command("release")(queue_release)
    app.command("reroute")(queue_reroute)
    app.command("bounce")(queue_bounce)
    app.command("delete")(queue_delete)
    app.command("bin")(queue_bin)
    app.command("restore")(queue_restore)
    app.command("freeze")(queue_freeze)
    app.command("thaw")(queue_thaw)
    app.command("frozen")(queue_frozen)
    app.command("export")(export_queue)
    app.command("import")(import_queue)
    return app

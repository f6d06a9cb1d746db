"""Answers as a person reads them on a terminal or in a pipe: text and tables, made of the values of answers.py.

What came from outside is never taken for markup. Pure: printing is cli.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, assert_never

from rich.table import Table
from rich.text import Text

from waypost import with_build
from waypost.admin.answers import (
    BinPage,
    CapturedDetail,
    Destinations,
    Froze,
    InboxPage,
    QueuedDetail,
    QueuePage,
    Resolution,
    Status,
    Trace,
    Traces,
    WatchedPeers,
    Why,
)
from waypost.mail.explain import plain
from waypost.net.clock import Instant
from waypost.queue.storage import HistoryEvent, QueueEntry, RecipientState
from waypost.route.state import DestinationState, Phase

#: What the instant of a state is to it; the other states have none.
_BOUND: Final = {RecipientState.DUE: "since", RecipientState.WAITING: "until"}
#: How the lines of a dialogue are coloured, by their mark.
MARKS = {"C": "cyan", "S": "green", "*": "yellow"}


def when(at: Instant) -> str:
    """An instant to the second, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def counted(count: int, thing: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def dialogue_line(mark: str, text: str, before: str = "") -> Text:
    """One line of a dialogue."""
    return Text.assemble(
        (before, "dim"), (mark, f"bold {MARKS.get(mark, '')}"), " ", (plain(text), MARKS.get(mark, ""))
    )


# ---- status
def status(answer: Status) -> Iterator[Text]:
    """The service at a glance."""
    service = answer.service
    for reason in answer.not_ready:
        yield Text(f"Not ready: {reason}", style="bold red")
    if not answer.not_ready:
        yield Text("Ready", style="bold green")
    for warning in answer.warnings:
        yield Text(f"Warning: {warning}", style="bold yellow")
    since = f"up since {when(service.started_at)}" if service.is_running else "stopped"
    yield Text(f"Waypost {with_build(service.version, compiled=service.compiled)} as {service.hostname}, {since}")
    for listener in service.listeners:
        yield Text(f"{'Listening' if service.is_running else 'Configured'}: {listener.role} on {listener.address}")
    yield Text(f"Spool: {service.spool} (a 250 means: {service.durability})")
    messages, recipients = counted(answer.messages, "message"), counted(answer.recipients, "recipient")
    yield Text(f"Queue: {messages}, {recipients}, {answer.held} of them held")
    yield Text(f"Reports due: {answer.reports_due}")


# ---- the queue
def queue(page: QueuePage) -> Iterator[Text]:
    """A few lines a recipient, with why it waits: what is longer than a terminal is wide no table can show."""
    if not page.entries:
        yield Text("The queue has nothing of that kind.")
        return
    for entry in page.entries:
        yield from waiting(entry)
    if page.next:
        yield Text(f"… and more: --after {page.next}", style="dim")


def waiting(entry: QueueEntry) -> Iterator[Text]:
    """One recipient: its message, state and address; where from and to; then why, if there is a reason."""
    bound = f" {_BOUND[entry.state]} {when(entry.due_at)}" if entry.state in _BOUND else ""
    yield Text.assemble((entry.id, "bold"), f"  {entry.state.value}{bound}  <{plain(entry.forward_path)}>")
    tried = counted(entry.attempts, "attempt")
    about = f"from <{plain(entry.reverse_path)}>, {entry.size} octets, by {plain(entry.next_hop)}, {tried}"
    yield Text(f"    {about}", style="dim")
    for why in filter(None, (entry.reason, entry.last_outcome)):
        yield Text(f"    {plain(why)}", style="yellow")


def destinations(answer: Destinations) -> Iterator[Text]:
    """Two lines a next hop: what it does and why, and how much of it."""
    if not answer.is_running:
        yield Text("The service is not running: nothing is delivered.", style="yellow")
    elif not answer.destinations:
        yield Text("There is nothing to deliver at present.")
    for one in answer.destinations:
        yield from _destination(one)
    if answer.more:
        yield Text("… and more: --limit", style="dim")


def _destination(one: DestinationState) -> Iterator[Text]:
    yield Text.assemble((plain(one.next_hop), "bold"), f"  {_doing(one)}")
    waiting = f"{counted(one.waiting, 'message')} in memory{', more on disk' if one.more else ''}"
    running = f"{counted(one.running, 'attempt')} running, {one.window} allowed now, {one.limit} at most"
    pace = f", a message every {one.pace:g} s" if one.pace else ""
    yield Text(f"    {waiting}; {running}{pace}", "dim")
    if one.cause:
        yield Text(f"    {plain(one.cause)}", style="yellow")


def _tally(one: DestinationState) -> Iterator[Text]:
    """What came of it, and the last replies."""
    tally = one.tally
    tried = tally.delivered + tally.deferred + tally.rejected + tally.in_doubt
    if not tried:
        return
    parts = (
        f"{tally.delivered} delivered, {tally.deferred} deferred, {tally.rejected} rejected, {tally.in_doubt} in doubt"
    )
    yield Text(f"    since {when(tally.since)}: {tally.delivered / tried:.0%} succeeded ({parts})", "dim")
    for last in tally.last:
        yield Text(f"    {when(last.at)}  {plain(last.text)}", "green" if last.outcome == "delivered" else "yellow")


# ---- why it waits
def why(answer: Why) -> Iterator[Text]:
    """A few lines a recipient, the cause first; then the destinations."""
    for one in answer.recipients:
        entry = one.entry
        yield Text.assemble((entry.id, "bold"), f"  <{plain(entry.forward_path)}>  {one.limiting.value}")
        yield Text(f"    {plain(one.text)}", "yellow")
        if one.clears_at:
            yield Text(f"    until {when(one.clears_at)}")
        if one.remedy:
            yield Text(f"    {plain(one.remedy)}", "dim")
    if answer.more:
        yield Text("… and more: --limit", style="dim")
    for state in answer.destinations:
        yield Text("")
        yield from _destination(state)
        yield from _tally(state)


def binned(page: BinPage) -> Iterator[Text]:
    """Two lines a recipient: what it is, and who put it there."""
    if not page.entries:
        yield Text("The bin has nothing of that kind.")
    for entry in page.entries:
        yield Text.assemble((entry.id, "bold"), f"  <{plain(entry.forward_path)}>  from <{plain(entry.reverse_path)}>")
        yield Text(f"    {when(entry.at)}  {plain(entry.why)}", "yellow")
    if page.next:
        yield Text(f"… and more: --after {page.next}", style="dim")


def frozen(answer: Froze) -> Iterator[Text]:
    """A line each."""
    if not answer.frozen:
        yield Text("Nothing is frozen.")
    for one in answer.frozen:
        yield Text.assemble((plain(one.place), "bold"), f"  {plain(str(one))}, {when(one.at)}")


def watched(answer: WatchedPeers) -> Iterator[Text]:
    """A line each."""
    if not answer.watched:
        yield Text("Nobody's dialogues are logged.")
    for one in answer.watched:
        yield Text.assemble((plain(one.peer), "bold"), f"  logged until {when(one.until)}, by {one.by}")


def _doing(one: DestinationState) -> str:
    match one.phase:
        case Phase.RESTING:
            return f"resting until {when(one.rests_until)}, then one attempt decides for the others"
        case Phase.FROZEN:
            return "frozen: neither tried nor given up until somebody thaws it"
        case Phase.SHUT:
            return "shut: its delivery window is; the queue tells when it opens"
        case Phase.HELD:
            return "held: neither tried nor given up until somebody has logged in"
        case Phase.PROBING:
            return "probing: one attempt decides for the others"
        case Phase.STALLED:
            return "stalled: attempts run, and for a while none has ended"
        case Phase.WAITING:
            return "waiting for its turn"
        case Phase.DELIVERING:
            return "delivering"
        case Phase.IDLE:
            return "idle"
        case _:
            assert_never(one.phase)


def queued(detail: QueuedDetail) -> Iterator[Text]:
    """One message: envelope, recipients, header section."""
    origin = detail.origin
    source = f" from {origin.client_name} [{origin.client_host}]" if origin.client_host else ""
    yield Text(f"Message {detail.id}", style="bold")
    yield Text(f"Received {when(detail.received_at)}{source} by {origin.protocol}, {detail.size} octets")
    yield Text(f"From <{detail.reverse_path}>")
    for entry in detail.entries:
        yield from _recipient_of(entry)
    if not detail.entries:
        yield Text(f"No recipient waits any more; what became of each: waypost trace {detail.id}")
    yield Text("")
    for line in detail.header.splitlines():
        yield Text(f"  {plain(line)}", style="dim")


def _recipient_of(entry: QueueEntry) -> Iterator[Text]:
    due = entry.reason or f"due {when(entry.due_at)}"
    tried = counted(entry.attempts, "attempt")
    yield Text(f"For <{entry.forward_path}> by {entry.next_hop}: {entry.state.value}, {tried}, {plain(due)}")
    if entry.last_outcome:
        yield Text(f"    {plain(entry.last_outcome)}", style="yellow")


# ---- a life
def traces(answer: Traces) -> Iterator[Text]:
    """One life after the other."""
    for number, each in enumerate(answer.traces):
        if number:
            yield Text("")
        yield from trace(each)
    if answer.next:
        yield Text(f"\n… and more: --before {answer.next}", style="dim")
    elif answer.more:
        yield Text(f"\n… there are older messages of {answer.asked}: --limit", style="dim")
    if not answer.traces:
        yield Text("Nothing of that kind is known; the history of old messages is dropped after a while.")


def trace(life: Trace) -> Iterator[Text]:
    """All that happened to one message, and where each recipient stands now."""
    yield Text(f"Message {life.id}", style="bold")
    for event in life.events:
        yield Text.assemble((f"  {when(event.at)}  ", "dim"), *_headline(event))
        yield from _details(event)
    for recipient, fate in fates(life):
        yield Text.assemble("  now  ", (f"<{recipient}>", "bold"), f"  {fate}")


def _headline(event: HistoryEvent) -> tuple[tuple[str, str], str]:
    """Its kind, and what its details do not tell anyway."""
    match event.details:
        case {"next_hop": str(next_hop), "started_at": float() | int() as start, "ended_at": float() | int() as end}:
            return (event.kind, "bold"), f"  to {plain(next_hop)}, in {end - start:.3f} s"
        case _:
            return (event.kind, "bold"), f"  {plain(event.text.removeprefix(event.kind).lstrip())}"


def _details(event: HistoryEvent) -> Iterator[Text]:
    match event.details:
        case {"outcomes": [*outcomes], "transcript": [*lines]}:
            for outcome in outcomes:
                yield from _outcome(outcome)
            for line in lines:
                yield from _transcript_line(line)
        case {"recipients": [*recipients], **more}:
            for recipient in recipients:
                yield from _recipient(recipient)
            yield from _session(more)
        case _:
            return


def _session(details: Mapping[str, object]) -> Iterator[Text]:
    """The dialogue of a session that brought a message, where somebody heard it."""
    match details:
        case {"transcript": [*lines]}:
            for line in lines:
                yield from _transcript_line(line)
        case _:
            return


def _outcome(outcome: object) -> Iterator[Text]:
    match outcome:
        case {"recipient": str(recipient), "text": str(text), "outcome": str(kind)}:
            colour = {"delivered": "green", "rejected": "red"}.get(kind, "yellow")
            yield Text.assemble("      ", (f"<{recipient}>", "bold"), "  ", (plain(text), colour))
        case _:
            return


def _transcript_line(line: object) -> Iterator[Text]:
    match line:
        case [float() | int() as at, str(mark), str(text)]:
            yield dialogue_line(mark, text, before=f"        {at:8.3f} ")
        case _:
            return


def _recipient(recipient: object) -> Iterator[Text]:
    match recipient:
        case {"forward_path": str(path), "next_hop": str(next_hop)}:
            yield Text(f"      for <{path}> by {next_hop}")
        case str(path):
            yield Text(f"      about <{path}>")
        case _:
            return


def fates(life: Trace) -> Iterator[tuple[str, str]]:
    """Each recipient, and where it stands: in the queue, or what was last said of it."""
    last: dict[str, str] = {}
    for event in life.events:
        last |= _said(event)
    waiting = {entry.forward_path: entry for entry in life.waiting}
    for recipient in dict.fromkeys((*last, *waiting)):
        if recipient in waiting:
            entry = waiting[recipient]
            yield recipient, plain(entry.reason or f"{entry.state.value}, due {when(entry.due_at)}")
        else:
            yield recipient, plain(last[recipient])


def _said(event: HistoryEvent) -> dict[str, str]:
    """What an event says of recipients: an attempt of those it tried, an operator's act of those it touched."""
    match event.kind, event.details:
        case "attempt", {"outcomes": [*outcomes]}:
            return {each["recipient"]: each["text"] for each in outcomes if isinstance(each, dict)}
        case "operator", {"recipients": [*recipients]}:
            return {str(recipient): event.text for recipient in recipients}
        case _:
            return {}


# ---- DNS
def resolution(answer: Resolution) -> Iterator[Text]:
    """Where mail for a domain goes, and what DNS said."""
    yield Text(answer.domain, style="bold")
    if answer.rule:
        yield Text(f"Route {answer.rule}: {answer.next_hop}")
    if answer.dns:
        yield Text(f"DNS: {answer.dns}")
    for host in answer.exchangers:
        line = Text(f"  {host.preference:5} {host.name}  {', '.join(host.addresses)}")
        line.append(f"  (TTL {host.ttl:.0f} s, {'signed' if host.signed else 'not signed'})" if host.ttl else "")
        line.append(f"  {host.trouble}" if host.trouble else "", "yellow")
        yield line
    for number, name in enumerate(answer.hosts, 1):
        yield Text(f"  {number}. {name}", style="green")
    for tls in answer.tls:
        level = f"TLS {tls.level}" if tls.level else "not used"
        yield Text(f"  {tls.host}: {level}, by {plain(tls.why)}", style="" if tls.level else "yellow")
        kind = "TLSA " if tls.level == "dane" else ""
        yield from (Text(f"    {kind}{plain(line)}") for line in tls.published)
    if answer.mta_sts:
        yield Text(f"MTA-STS policy: {plain(answer.mta_sts)}")
    if answer.trouble:
        yield Text(f"  {plain(answer.trouble)}", style="yellow")


# ---- captured messages
def inbox(page: InboxPage) -> Iterator[Text | Table]:
    """A line a message, newest first."""
    if not page.messages:
        yield Text("Nothing was captured.")
        return
    table = _table("Number", "Octets", "Captured", "From", "For")
    for each in page.messages:
        cells = (str(each.number), str(each.size), when(each.captured_at), each.reverse_path or "<>")
        table.add_row(*map(_cell, (*cells, ", ".join(each.recipients))))
    yield table
    if page.next:
        yield Text(f"… and older ones: --before {page.next}", style="dim")


def captured(detail: CapturedDetail) -> Iterator[Text]:
    """A message for reading."""
    for name, value in detail.header:
        yield Text.assemble((f"{name}: ", "bold"), value)
    yield Text("")
    for line in (detail.text or detail.html or "(no text)").splitlines():
        yield Text(plain(line.replace("\t", "    ")))
    for name in detail.attachments:
        yield Text(f"[attachment: {name}]", style="dim")
    if detail.cut:
        yield Text("[only the beginning was taken apart: see the whole with --raw]", style="dim")


def _table(*head: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in head:
        table.add_column(name, overflow="fold")
    return table


def _cell(text: str) -> Text:
    return Text(plain(text))


def lines(texts: Iterable[str]) -> Iterator[Text]:
    """Plain lines."""
    for text in texts:
        yield Text(plain(text))

"""What is said of mail in the log, and counted of it.

One line for each message taken, one for each attempt and recipient, one for each report. Receiving, delivering and
reporting each name in a Protocol what they tell (receive/ports.py, deliver/journal.py, report/reporter.py); `Journal`
fits them all and imports nothing of theirs. Keys are the glossary's; `id` is the message's name all its life.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final, assert_never

from waypost.mail.attempt import Attempt
from waypost.mail.envelope import Envelope, MessageId, NextHop, QueuedMessage
from waypost.mail.explain import as_details, describe_cause, plain
from waypost.mail.notification import Addressee, ToAuthor, ToPostmaster
from waypost.mail.outcome import Cause, InDoubt
from waypost.mail.trace_context import trace_of
from waypost.net.clock import Instant
from waypost.net.stream import Endpoint, Fault
from waypost.net.tls import TlsFacts
from waypost.queue.storage import Gone, Hold, Lease, Notice, Report, Settled, StorageError, Wait
from waypost.report.log import Log, timestamp
from waypost.report.metrics import Metrics, kind_of
from waypost.report.traces import UNTRACED, Traces
from waypost.smtp.path import NullPath
from waypost.smtp.reply import Reply

_REPORTS: Final = {
    Notice.NONE: "",
    Notice.FAILED: "failure report",
    Notice.DELAYED: "delay report",
    Notice.DELIVERED: "delivery report",
    Notice.RELAYED: "relay report",
    Notice.EXPANDED: "report of an expansion",
}


#: How a dialogue tells whom it is with (deliver/connection.py).
_CONNECTING: Final = re.compile(r"connecting to (?P<name>[^\s\[]+|\[[^]]*\])\[\[?(?P<address>[0-9a-fA-F:.]+?)\]?:\d+\]")

#: What a login came to, by the reply to it.
_LOGINS: Final = {421: "blocked", 454: "unavailable"}


def peers_of(attempt: Attempt) -> set[str]:
    """By what names those are known whom an attempt had to do with."""
    peers = {attempt.next_hop.lower()}
    for _, mark, text in attempt.transcript.lines:
        found = _CONNECTING.match(text) if mark == "*" else None
        if found:
            peers |= {found["name"].lower(), found["address"].lower()}
    return peers


class Journal:
    """Tells the log and the metrics. Methods return at once and may be called on every message."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self._log = log
        self._say = log.logger
        self._metrics = metrics
        #: Peers whose dialogues are logged: next hops, hosts' names, addresses; in lower case.
        self.watched: Collection[str] = ()
        #: Who makes spans of what is told.
        self.traces: Traces = UNTRACED

    # ---- TLS reports
    def tls_reported(self, domain: str, day: str, place: str) -> None:
        """A day's TLS report was handed over."""
        self._say.info("TLS report sent", domain=domain, day=day, to=plain(place))

    def tls_not_reported(self, domain: str, day: str, why: str) -> None:
        """One was not."""
        self._say.warning("TLS report not sent", domain=domain, day=day, cause=plain(why))

    # ---- receiving
    def connected(self, client: Endpoint, door: str) -> None:
        """A client is greeted."""
        self._metrics.session_opened()
        if self._log.says_debug:
            self._say.debug("client connected", client=str(client), listener=door)

    def handshake(self, client: Endpoint, door: str, result: TlsFacts | Fault) -> None:
        """A client's TLS handshake has ended."""
        match result:
            case TlsFacts():
                self._metrics.handshake(result.version)
                if self._log.says_debug:
                    self._say.debug("TLS", client=str(client), listener=door, tls=plain(str(result)))
            case Fault():
                self._metrics.handshake("failed")
                self._say.info("TLS handshake failed", client=str(client), listener=door, fault=plain(str(result)))
            case _:
                assert_never(result)

    def refused(self, client: Endpoint, line: str, reply: Reply) -> None:
        """A client's command, or its message, was refused."""
        self._metrics.refused(reply)
        if self._log.says_info:
            self._say.info("refused", client=str(client), command=plain(line), reply=plain(str(reply)))

    def logged_in(self, client: Endpoint, account: str, mechanism: str) -> None:
        """A client has shown whose it is."""
        self._metrics.logged_in("accepted")
        if self._log.says_info:
            self._say.info("logged in", client=str(client), account=plain(account), mechanism=mechanism)

    def login_refused(self, client: Endpoint, username: str, mechanism: str, why: str, reply: Reply) -> None:
        """A client has not, or nobody could tell."""
        self._metrics.logged_in(_LOGINS.get(reply.code, "refused"))
        say = self._say.error if reply.code == 454 else self._say.warning
        say(
            "login refused",
            client=str(client),
            account=plain(username),
            mechanism=mechanism,
            why=plain(why),
            reply=str(reply),
        )

    # ---- hooks
    def watch_hooks(self, hooks: Sequence[str]) -> None:
        """These will be asked."""
        self._metrics.watch_hooks(hooks)

    def hook_asked(self, hook: str, seconds: float) -> None:
        """A hook came to a verdict."""
        self._metrics.hook_asked(hook, seconds, failed=False)

    def hook_failed(self, hook: str, why: str, seconds: float) -> None:
        """A hook came to none: its message waits."""
        self._metrics.hook_asked(hook, seconds, failed=True)
        self._say.error("hook failed: its message was deferred", hook=hook, why=plain(why), seconds=round(seconds, 3))

    # ---- files
    def put_aside(self, file: str, why: str) -> None:
        """A file of the pickup directory can never be taken."""
        self._say.error("put aside: see the file beside it", file=plain(file), why=plain(why))

    def put_off(self, file: str, why: str) -> None:
        """One cannot be taken now."""
        self._say.warning("not taken now; it is tried again", file=plain(file), why=plain(why))

    def accepted(self, client: Endpoint, id: MessageId, envelope: Envelope, size: int) -> None:  # noqa: A002 - the field's own name
        """A message is durable."""
        durability = self._metrics.received(size)
        if self.traces.is_on:
            self.traces.received(client, id, envelope, size)
        if not self._log.says_info:
            return
        recipients, origin = envelope.recipients, envelope.origin
        tls = {"tls": plain(origin.tls)} if origin.tls else {}
        self._log.info(
            "received",
            {
                "id": id,
                "client": str(client),
                "client_name": origin.client_name,
                "protocol": origin.protocol,
                **({"account": plain(origin.account)} if origin.account else {}),
                **tls,
                "reverse_path": str(envelope.reverse_path),
                "recipient": str(recipients[0].forward_path),
                "recipients": len(recipients),
                "size": size,
                "durability": durability,
                **({"trace": trace_of(envelope.traceparent)} if envelope.traceparent else {}),
            },
        )

    def overheard(self, client: Endpoint, door: str, mark: str, text: str) -> None:
        """A line of a session that somebody wants to hear, whatever the log's level."""
        self._say.error("dialogue", client=str(client), listener=door, mark=mark, text=plain(text))

    def resent(self, client: Endpoint, id: MessageId) -> None:  # noqa: A002 - the field's own name
        """A client sent a message again whose 250 it had not heard."""
        self._metrics.resent()
        self._say.info("received again, kept once", id=id, client=str(client))

    def trouble(self, client: Endpoint, what: str, error: Exception) -> None:
        """An error of ours while receiving; the client was answered 4yz."""
        self._trouble("receiving failed; the client keeps its mail", what, error, client=str(client))

    def undecided(self, client: Endpoint, recipient: str, trouble: str) -> None:
        """A map is in trouble, or what it lists leads nowhere."""
        self._say.warning("recipient not to be reached", client=str(client), recipient=recipient, cause=plain(trouble))

    # ---- strangers
    def screened(self, host: str, action: str, words: str) -> None:
        """Lists in DNS say something of a client, and it counts."""
        self._metrics.screened(action)
        self._say.info("screened", client=host, action=action, text=plain(words))

    def limited(self, host: str, account: str, rate: str, place: str) -> None:
        """A client has sent more than a rate allows."""
        self._metrics.limited()
        more = {"account": plain(account)} if account else {}
        self._say.info("rate exceeded", client=host, rate=rate, place=place, **more)

    def list_ignored(self, zone: str, why: str) -> None:
        """A list in DNS is of no use."""
        self._say.error("a list in DNS is ignored: mend it, or leave its [[dns_list]] out", zone=zone, why=plain(why))

    def list_heeded(self, zone: str) -> None:
        """It is again."""
        self._say.info("a list in DNS is heeded again", zone=zone)

    def shelf_trouble(self, doing: str, detail: str) -> None:
        """What is counted in the spool could not be; nobody was refused for it."""
        self._metrics.storage_failed()
        self._say.error("not counted in the spool: the client passes", doing=doing, detail=plain(detail))

    def ended(self, client: Endpoint, reason: str, messages: int) -> None:
        """A client's session is over."""
        self._metrics.session_closed()
        if self._log.says_debug:
            self._say.debug("session ended", client=str(client), reason=plain(reason), messages=messages)

    # ---- delivering
    def attempted(self, attempt: Attempt, settled: Sequence[Settled]) -> None:
        """An attempt has ended: a line a recipient, with what follows."""
        helo = opened_with_helo(attempt)
        self._metrics.attempted(attempt, settled, helo=helo)
        for one in settled:
            if isinstance(one.outcome, InDoubt):
                self._say.warning("in doubt", **_line(attempt, one, helo=helo))
            elif self._log.says_info:
                self._log.info(kind_of(one.outcome), _line(attempt, one, helo=helo))
        if self.traces.is_on:
            self.traces.attempted(attempt, settled)
        if self.watched and not peers_of(attempt).isdisjoint(self.watched):
            self._dialogue(attempt)

    def _dialogue(self, attempt: Attempt) -> None:
        """What was said, whatever the log's level: somebody has asked for it."""
        for at, mark, text in attempt.transcript.lines:
            line = {"at": round(at, 4), "mark": mark, "text": plain(text)}
            self._say.error("dialogue", id=attempt.message.id, next_hop=attempt.next_hop, **line)

    def crashed(self, message: QueuedMessage, next_hop: NextHop, error: Exception) -> None:
        """A bug of ours was caught within an attempt."""
        self._metrics.crashed()
        self._say.error(
            "bug caught in an attempt; the message stays queued", id=message.id, next_hop=next_hop, exc_info=error
        )

    def suppressed(self, message: QueuedMessage, next_hop: NextHop, why: str) -> None:
        """An automatic reply went no further, as its route wishes."""
        self._metrics.suppressed()
        self._say.info(
            "automatic reply suppressed",
            id=message.id,
            reverse_path=str(message.reverse_path),
            next_hop=next_hop,
            why=plain(why),
        )

    def made_over(self, message: QueuedMessage, next_hop: NextHop, notes: Sequence[str]) -> None:
        """A message was changed as its route wishes, or could not be."""
        self._metrics.made_over()
        self._say.info("content made over", id=message.id, next_hop=next_hop, text=plain("; ".join(notes)))

    def storage_failed(self, doing: str, detail: str) -> None:
        """The queue could not be asked or told."""
        self._metrics.storage_failed()
        self._say.error("the queue failed; it is tried again", doing=doing, detail=plain(detail))

    def lease_lost(self, lease: Lease) -> None:
        """An attempt ended, but its lease was no longer ours."""
        self._say.warning(
            "lease lost: another may have sent it too",
            id=lease.message.id,
            next_hop=lease.next_hop,
            owner=lease.owner,
            epoch=lease.epoch,
            until=timestamp(lease.until),
        )

    def destination_rests(self, next_hop: NextHop, cause: Cause, until: Instant) -> None:
        """A destination is left alone for a while."""
        self._say.warning(
            "destination rests", next_hop=next_hop, text=describe_cause(cause), follows=f"tried at {timestamp(until)}"
        )

    def credentials_refused(self, next_hop: NextHop, cause: Cause, until: Instant) -> None:
        """Somebody has to put a route's credentials right."""
        self._say.error(
            "credentials refused: put those of this route right, its mail waits",
            next_hop=next_hop,
            text=describe_cause(cause),
            follows=f"tried at {timestamp(until)}",
        )

    def authorisation_ended(self, next_hop: NextHop, cause: Cause) -> None:
        """Somebody has to log in."""
        self._say.error("authorisation ended: its mail is held", next_hop=next_hop, text=describe_cause(cause))

    def quota_spent(self, next_hop: NextHop, cause: Cause, until: Instant) -> None:
        """Nothing goes by its account until then."""
        text = describe_cause(cause)
        self._say.warning("quota spent: its mail waits", next_hop=next_hop, text=text, until=timestamp(until))

    # ---- reporting
    def reported(self, report: Report, addressee: Addressee, id: MessageId) -> None:  # noqa: A002 - the DSN's id
        """A DSN has come into the queue."""
        self._metrics.reported(report.notice)
        match addressee:
            case ToAuthor():
                why: dict[str, object] = {}
            case ToPostmaster(because=because):
                why = {"postmaster_because": because}
            case _:
                assert_never(addressee)
        self._say.info(
            "report queued",
            id=report.message.id,
            notice=report.notice.value,
            report=id,
            recipient=str(addressee.mailbox),
            recipients=len(report.recipients),
            **why,
        )

    def report_dropped(self, report: Report, why: str) -> None:
        """Nobody is told; where a failure stays untold, that is a warning."""
        self._metrics.report_dropped()
        say = self._say.warning if report.notice is Notice.FAILED else self._say.info
        say("report not sent", id=report.message.id, notice=report.notice.value, why=why)

    def alarm_sent(self, what: str, recipient: str, id: str) -> None:  # noqa: A002 - the message's id
        """The postmaster gets a message of our own."""
        self._say.warning("alarm queued", what=what, recipient=recipient, id=id)

    def notice_failed(self, recipient: str, why: str) -> None:
        """A notice to an administrator could not be queued."""
        self._say.error("a notice could not be queued; it is tried again", recipient=recipient, cause=plain(why))

    def report_trouble(self, doing: str, error: Exception) -> None:
        """Reporting failed and is tried again."""
        self._trouble("reporting failed; it is tried again", doing, error)

    def _trouble(self, event: str, doing: str, error: Exception, **more: str) -> None:
        """A storage that fails is said in a line; anything else is a bug of ours, and said with its place."""
        if isinstance(error, StorageError):
            self._metrics.storage_failed()
            self._say.error(event, doing=plain(doing), detail=plain(str(error)), **more)
        else:
            self._metrics.crashed()
            self._say.error(event, doing=plain(doing), exc_info=error, **more)


def opened_with_helo(attempt: Attempt) -> bool:
    """Whether a session of this attempt was opened with HELO: after EHLO failed, now or at an earlier attempt."""
    return any(mark == "C" and text[:4] == "HELO" for _, mark, text in attempt.transcript.passages)


def _line(attempt: Attempt, settled: Settled, *, helo: bool) -> dict[str, object]:
    """What an attempt's line says of one recipient."""
    fields: dict[str, object] = {
        "id": attempt.message.id,
        "recipient": str(settled.recipient.forward_path),
        "next_hop": attempt.next_hop,
        "attempt": settled.recipient.attempts + 1,
        "seconds": round(attempt.ended_at - attempt.started_at, 3),
        "follows": follows(attempt.message, settled),
    }
    if helo:
        fields["helo"] = True
    if attempt.message.traceparent:
        fields["trace"] = trace_of(attempt.message.traceparent)
    fields |= as_details(settled.outcome)
    del fields["outcome"]  # it is the event
    return fields


def follows(message: QueuedMessage, settled: Settled) -> str:
    """What happens to a recipient next, in a few words."""
    match settled.next:
        case Gone():
            what = "done"
        case Wait(until):
            what = f"next attempt {timestamp(until)}"
        case Hold(reason):
            what = f"held: {reason}"
        case _:
            assert_never(settled.next)
    if settled.notice is Notice.NONE:
        return what
    reverse_path = message.reverse_path
    whom = "the postmaster" if isinstance(reverse_path, NullPath) else f"<{reverse_path}>"
    return f"{what}; {_REPORTS[settled.notice]} to {whom}"

"""What is counted, for Prometheus. Each process has its own registry; there is no global one.

Labels hold words of ours only (an outcome's kind, a transport's scheme), never a domain or an address: the number of
series does not grow with the mail. docs/reference/metrics.md lists all of them, and a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final, Protocol, assert_never

from prometheus_client import CollectorRegistry, Info, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from waypost.mail.attempt import Attempt
from waypost.mail.outcome import Deferred, Delivered, InDoubt, Outcome, Rejected
from waypost.net.clock import SystemClock
from waypost.queue.storage import Counts, Durability, Notice, Settled, StorageError
from waypost.report.tally import Counters, Level, Number, Spread
from waypost.route.state import DestinationState, Phase
from waypost.smtp.reply import Reply

#: Seconds from the 250 that took a message to its delivery: a healthy relay lives left of 1, a retry schedule right.
_LATENCIES: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 1800, 7200, 28800, 86400, 432000)
_OUTCOMES: Final = ("delivered", "deferred", "rejected", "in doubt")
_TRANSPORTS: Final = ("smtp", "mx", "lmtp", "maildir", "http", "https", "pipe", "capture", "discard", "reject", "other")
_LOGINS: Final = ("accepted", "refused", "blocked", "unavailable")
_SCREENED: Final = ("tag", "greylist", "quarantine", "refuse")
_TLS_VERSIONS: Final = ("TLSv1.3", "TLSv1.2", "other", "failed")
_REPORTED: Final = ("failed", "delayed", "delivered", "relayed", "expanded")


class Countable(Protocol):
    """The queue, as far as the gauges ask it."""

    durability: Durability

    async def counts(self) -> Counts:
        """Raises: StorageError."""
        ...


def _no_destinations() -> Sequence[DestinationState]:
    """Nothing is delivered in this process."""
    return ()


class Metrics:
    """The counters and gauges of one process."""

    def __init__(self, storage: Countable) -> None:
        self._storage = storage
        self.registry = CollectorRegistry()
        self._created = SystemClock().now()
        self._receiving()
        self._delivering()
        self._reporting()
        self._hooks()
        self._queue()
        #: Asked at each scrape for what every next hop is doing.
        self.destinations: Callable[[], Sequence[DestinationState]] = _no_destinations
        #: Asked at each scrape: days until each authorisation ends.
        self.days_authorised: Callable[[], Sequence[float]] = tuple
        self._durability = Info(
            "waypost_durability",
            "What a 250 is worth now: memory, delayed, fsync, replicated",
            registry=self.registry,
        )
        self._durability.info({"durability": storage.durability.value})

    def _receiving(self) -> None:
        """Of sessions with clients."""
        counter, counters, gauge = self._counter, self._counters, self._gauge
        self._sessions = counter("sessions", "Sessions clients have opened")
        self._open_sessions = gauge("sessions_open", "Sessions of clients open now")
        self._received = counter("messages_received", "Messages taken responsibility for with a 250")
        self._octets = counter("octets_received", "Octets of those messages")
        self._durable = counters(
            "messages_durable", "Messages received, by what their 250 was worth", "durability", Durability
        )
        self._resent = counter("messages_resent", "Messages sent again after a lost 250, and kept once")
        self._refused = counters(
            "refused", "Replies that refused something to a client, by class", "code", ("4yz", "5yz")
        )
        self._logins = counters("logins", "AUTH commands that ended, by what they came to", "outcome", _LOGINS)
        self._handshakes = counters(
            "tls_handshakes", "TLS handshakes with clients, by version, or failed", "version", _TLS_VERSIONS
        )
        self._screened = counters(
            "screened",
            "Transactions of strangers that lists in DNS had a say in, by what followed",
            "action",
            _SCREENED,
        )
        self._limited = counter("rates_exceeded", "Connections, messages and recipients refused for a rate")

    def _delivering(self) -> None:
        """Of attempts."""
        counter, counters = self._counter, self._counters
        self._attempts = counters("attempts", "Attempts ended, by transport", "transport", _TRANSPORTS)
        self._outcomes = counters("outcomes", "What attempts came to, counted by recipient", "outcome", _OUTCOMES)
        self._helo = counter("helo_fallbacks", "Attempts that opened a session with HELO, as EHLO failed there")
        self._suppressed = counter("replies_suppressed", "Automatic replies that a route let go no further")
        self._made_over = counter("content_made_over", "Attempts whose message was changed as its route wishes")
        self._in_doubt = counter("in_doubt", "Recipients who may get a second copy: no reply came to the final dot")
        self._crashes = counter("crashes", "Bugs of ours that were caught within an attempt or a report")
        self._latency = Spread(
            "waypost_delivery_seconds",
            "From the 250 that took the message to its delivery, by recipient",
            _LATENCIES,
            self._created,
        )
        self.registry.register(self._latency)

    def _reporting(self) -> None:
        """Of reports."""
        counter, counters = self._counter, self._counters
        self._reports = counters("reports", "DSNs queued, by kind", "notice", _REPORTED)
        self._reports_dropped = counter("reports_dropped", "Reports that were due and told to nobody")

    def _hooks(self) -> None:
        """Of hooks; their names come with the configuration."""
        counters = self._counters
        self._hook_calls = counters("hook_calls", "Calls of hooks, by hook", "hook", ())
        self._hook_failures = counters("hook_failures", "Calls that came to no verdict, by hook", "hook", ())
        self._hook_seconds = counters("hook_seconds", "Seconds spent in hooks, by hook", "hook", ())

    def _queue(self) -> None:
        """Of what waits, and what it waits for."""
        counter, gauge = self._counter, self._gauge
        self._storage_failures = counter("storage_failures", "Times the queue could not be asked or told")
        self._queue_messages = gauge("queue_messages", "Messages in the queue")
        self._queue_recipients = gauge("queue_recipients", "Recipients in the queue, held ones included")
        self._queue_held = gauge("queue_held", "Recipients held until somebody releases them")
        self._reports_due = gauge("reports_due", "Reports not yet made")
        self._resting = gauge("destinations_resting", "Next hops at which nothing is tried for a while")
        self._held_hops = gauge("destinations_held", "Next hops whose mail waits for somebody to log in")
        self._oauth_days = gauge(
            "oauth_days", "Days until somebody has to log in for the OAuth authorisation that ends first; 0: now"
        )
        self._stalled = gauge("destinations_stalled", "Next hops with attempts under way of which none ends")

    def _counter(self, name: str, help_text: str) -> Number:
        return self._counters(name, help_text, "", ("",))[""]

    def _counters(self, name: str, help_text: str, label: str, values: Iterable[str]) -> dict[str, Number]:
        family = Counters(f"waypost_{name}", help_text, label, values, self._created)
        self.registry.register(family)
        return family.series

    def _gauge(self, name: str, help_text: str) -> Level:
        gauge = Level(f"waypost_{name}", help_text)
        self.registry.register(gauge)
        return gauge

    # ---- hooks
    def watch_hooks(self, hooks: Sequence[str]) -> None:
        """Count from now on what these do."""
        for family in (self._hook_calls, self._hook_failures, self._hook_seconds):
            family.update({hook: Number() for hook in hooks if hook not in family})

    def hook_asked(self, hook: str, seconds: float, *, failed: bool) -> None:
        """A hook was asked, so long."""
        if hook not in self._hook_calls:  # one that decided together with others
            return
        self._hook_calls[hook].value += 1
        self._hook_failures[hook].value += failed
        self._hook_seconds[hook].value += seconds

    def totals(self) -> dict[str, float]:
        """What has flowed since the start, for the dashboard's charts; and the sessions open now."""
        outcomes = {name.replace(" ", "_"): number.value for name, number in self._outcomes.items()}
        return outcomes | {
            "received": self._received.value,
            "octets": self._octets.value,
            "refused": sum(number.value for number in self._refused.values()),
            "sessions": self._open_sessions.value,
        }

    # ---- receiving
    def session_opened(self) -> None:
        """A client has connected."""
        self._sessions.value += 1
        self._open_sessions.value += 1

    def session_closed(self) -> None:
        """A client's session has ended."""
        self._open_sessions.value -= 1

    def handshake(self, version: str) -> None:
        """A client's handshake has ended in this version of TLS, or "failed"."""
        self._handshakes[version if version in self._handshakes else "other"].value += 1

    def received(self, octets: int) -> Durability:
        """A message of so many octets was taken; what its 250 is worth."""
        durability = self._storage.durability
        self._received.value += 1
        self._durable[durability].value += 1
        self._octets.value += octets
        return durability

    def resent(self) -> None:
        """A message came again whose 250 was lost."""
        self._resent.value += 1

    def suppressed(self) -> None:
        """An automatic reply was suppressed."""
        self._suppressed.value += 1

    def made_over(self) -> None:
        """A message was made over."""
        self._made_over.value += 1

    def screened(self, action: str) -> None:
        """What followed from lists in DNS: `action` is one of `_SCREENED`."""
        self._screened[action].value += 1

    def limited(self) -> None:
        """A rate was exceeded."""
        self._limited.value += 1

    def logged_in(self, outcome: str) -> None:
        """A client tried to log in: `outcome` is one of `_LOGINS`."""
        self._logins[outcome].value += 1

    def refused(self, reply: Reply) -> None:
        """A client was refused something."""
        self._refused["4yz" if reply.is_transient else "5yz"].value += 1

    # ---- delivering
    def attempted(self, attempt: Attempt, settled: Sequence[Settled], *, helo: bool) -> None:
        """An attempt has ended; `helo`: a session of it was opened with HELO."""
        scheme = attempt.next_hop.partition(":")[0]
        self._attempts[scheme if scheme in self._attempts else "other"].value += 1
        if helo:
            self._helo.value += 1
        for one in settled:
            self._outcomes[kind_of(one.outcome)].value += 1
            match one.outcome:
                case Delivered():
                    self._latency.observe(max(0.0, attempt.ended_at - attempt.message.received_at))
                case InDoubt():
                    self._in_doubt.value += 1
                case Deferred() | Rejected():
                    pass
                case _:
                    assert_never(one.outcome)

    def crashed(self) -> None:
        """A bug was caught."""
        self._crashes.value += 1

    def storage_failed(self) -> None:
        """The queue failed."""
        self._storage_failures.value += 1

    # ---- reporting
    def reported(self, notice: Notice) -> None:
        """A DSN has come into the queue."""
        if notice is not Notice.NONE:
            self._reports[notice.value].value += 1

    def report_dropped(self) -> None:
        """A report was told to nobody."""
        self._reports_dropped.value += 1

    # ---- showing
    async def collect(self) -> bytes:
        """All of it in Prometheus' text format. Never raises: where the queue cannot be asked, its gauges say NaN."""
        try:
            counts = await self._storage.counts()
            numbers: Sequence[float] = (counts.messages, counts.recipients, counts.held, counts.reports_due)
        except StorageError:
            self.storage_failed()
            numbers = (float("nan"),) * 4
        gauges = (self._queue_messages, self._queue_recipients, self._queue_held, self._reports_due)
        for gauge, number in zip(gauges, numbers, strict=True):
            gauge.value = number
        self._durability.info({"durability": self._storage.durability.value})
        phases = [one.phase for one in self.destinations()]
        self._held_hops.value = phases.count(Phase.HELD)
        self._oauth_days.value = min(self.days_authorised(), default=inf)
        self._resting.value, self._stalled.value = phases.count(Phase.RESTING), phases.count(Phase.STALLED)
        return generate_latest(self.registry)


def kind_of(outcome: Outcome) -> str:
    """The outcome's kind in a word or two, as metrics and log call it."""
    match outcome:
        case Delivered():
            return "delivered"
        case Deferred():
            return "deferred"
        case Rejected():
            return "rejected"
        case InDoubt():
            return "in doubt"
        case _:
            assert_never(outcome)


def reference(registry: CollectorRegistry) -> str:
    """docs/reference/metrics.md: every metric there is, in Markdown."""
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` on the admin address, in Prometheus' text format. Labels never hold a domain or an address.",
        "packaging/grafana.json is a dashboard for Grafana, packaging/alerts.yml has rules for alerts.",
        "",
        "| Metric | Kind | Labels | Meaning |",
        "|---|---|---|---|",
    ]
    for family in registry.collect():
        suffix = "_total" if family.type == "counter" else "_info" if family.type == "info" else ""
        labels = {key: None for sample in family.samples for key in sample.labels if key != "le"}
        shown = ", ".join(f"`{label}`" for label in labels) or "none"
        lines.append(f"| `{family.name}{suffix}` | {family.type} | {shown} | {family.documentation} |")
    return "\n".join([*lines, ""])


#: The metrics that `Metrics.totals` has, by their names and labels.
_TOTALS: Final = {
    ("waypost_messages_received_total", ""): "received",
    ("waypost_octets_received_total", ""): "octets",
    ("waypost_outcomes_total", "delivered"): "delivered",
    ("waypost_outcomes_total", "deferred"): "deferred",
    ("waypost_outcomes_total", "rejected"): "rejected",
    ("waypost_outcomes_total", "in doubt"): "in_doubt",
    ("waypost_refused_total", "4yz"): "refused",
    ("waypost_refused_total", "5yz"): "refused",
    ("waypost_sessions_open", ""): "sessions",
}


def totals_in(text: str) -> dict[str, float]:
    """The same, read from metrics that were collected."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = _TOTALS.get((sample.name, "".join(sample.labels.values())))
            if name:
                found[name] = found.get(name, 0.0) + sample.value
    return found

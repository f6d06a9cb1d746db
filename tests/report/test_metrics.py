"""What is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.attempts import ATTEMPT, DELIVERED, IN_DOUBT, REFUSED, WAITING, attempt_with, fate
from waypost.mail.envelope import NextHop
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Counts, Durability, Gone, Notice, StorageError, StoreFault, StoreFaultKind
from waypost.report.metrics import Metrics, reference
from waypost.report.tally import Spread
from waypost.route.state import DestinationState, Phase
from waypost.smtp.reply import Reply

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(MemoryStorage())


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"waypost_{name}", labels)


def test_the_reference_lists_every_metric_as_it_is(metrics: Metrics) -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference(metrics.registry), (
        "docs/reference/metrics.md is out of date: write waypost.report.metrics.reference(registry) to it"
    )


def test_every_series_is_there_before_anything_happens_and_none_comes_with_the_mail(metrics: Metrics) -> None:
    def series() -> set[str]:
        return {
            f"{sample.name}{sorted(sample.labels.items())}"
            for family in metrics.registry.collect()
            for sample in family.samples
        }

    before = series()
    for hop in ("smtp://a.example", "mx:b.example", "carrier-pigeon:c.example"):
        for outcome, next_ in ((DELIVERED, Gone()), (REFUSED, Gone()), (IN_DOUBT, WAITING)):
            metrics.attempted(attempt_with(hop), [fate(outcome, next_)], helo=True)
    for notice in Notice:
        metrics.reported(notice)
    assert series() == before


def test_attempts_are_counted_by_transport_and_outcomes_by_recipient(metrics: Metrics) -> None:
    metrics.attempted(ATTEMPT, [fate(DELIVERED, Gone()), fate(DELIVERED, Gone()), fate(REFUSED, Gone())], helo=False)
    metrics.attempted(attempt_with("mx:example.com"), [fate(IN_DOUBT, WAITING)], helo=True)
    assert value(metrics, "attempts_total", transport="smtp") == 1
    assert value(metrics, "attempts_total", transport="mx") == 1
    assert value(metrics, "outcomes_total", outcome="delivered") == 2
    assert value(metrics, "outcomes_total", outcome="rejected") == 1
    assert value(metrics, "outcomes_total", outcome="in doubt") == 1
    assert value(metrics, "in_doubt_total") == 1
    assert value(metrics, "helo_fallbacks_total") == 1


def test_the_way_from_the_250_to_delivery_is_measured(metrics: Metrics) -> None:
    metrics.attempted(ATTEMPT, [fate(DELIVERED, Gone())], helo=False)
    assert value(metrics, "delivery_seconds_sum") == pytest.approx(ATTEMPT.ended_at - ATTEMPT.message.received_at)


def test_each_bucket_counts_the_deliveries_that_took_no_longer() -> None:
    spread = Spread("seconds", "", (0.1, 1, 10), created=7.0)
    for seconds in (0.0, 0.1, 0.2, 10.0, 11.0):
        spread.observe(seconds)
    (family,) = spread.collect()
    assert [(sample.name, sample.labels.get("le", ""), sample.value) for sample in family.samples] == [
        ("seconds_bucket", "0.1", 2),
        ("seconds_bucket", "1.0", 3),
        ("seconds_bucket", "10.0", 4),
        ("seconds_bucket", "+Inf", 5),
        ("seconds_count", "", 5),
        ("seconds_sum", "", pytest.approx(21.3)),
        ("seconds_created", "", 7.0),
    ]


def test_sessions_and_refusals_are_counted(metrics: Metrics) -> None:
    metrics.session_opened()
    metrics.session_opened()
    metrics.session_closed()
    metrics.received(1234)
    metrics.refused(Reply(451, ("4.3.0 later",)))
    metrics.refused(Reply(550, ("5.1.1 no",)))
    assert value(metrics, "sessions_total") == 2
    assert value(metrics, "sessions_open") == 1
    assert value(metrics, "messages_received_total") == 1
    assert value(metrics, "octets_received_total") == 1234
    assert value(metrics, "refused_total", code="4yz") == 1
    assert value(metrics, "refused_total", code="5yz") == 1


class Queue:
    durability = Durability.FSYNC

    def __init__(self, *, broken: bool = False) -> None:
        self._broken = broken

    async def counts(self) -> Counts:
        if self._broken:
            raise StorageError(StoreFault(StoreFaultKind.FAILED, "the disk is away"))
        return Counts(messages=3, recipients=5, held=1, reports_due=2)


async def test_a_scrape_shows_the_queue_and_what_a_250_is_worth() -> None:
    text = (await Metrics(Queue()).collect()).decode()
    for line in (
        "waypost_queue_messages 3.0",
        "waypost_queue_recipients 5.0",
        "waypost_queue_held 1.0",
        "waypost_reports_due 2.0",
        'waypost_durability_info{durability="fsync"} 1.0',
    ):
        assert line in text.splitlines()


async def test_a_scrape_survives_a_queue_that_cannot_be_asked() -> None:
    text = (await Metrics(Queue(broken=True)).collect()).decode()
    assert "waypost_queue_messages NaN" in text.splitlines()
    assert "waypost_storage_failures_total 1.0" in text.splitlines()


async def test_a_scrape_counts_destinations_in_trouble_and_names_none() -> None:
    metrics = Metrics(MemoryStorage())
    phases = (Phase.RESTING, Phase.RESTING, Phase.STALLED, Phase.DELIVERING)
    metrics.destinations = lambda: [
        DestinationState(NextHop("smtp://inner.example"), phase, 0, False, 0, 1, 20, "", 0.0) for phase in phases
    ]
    text = (await metrics.collect()).decode()
    assert "waypost_destinations_resting 2.0" in text.splitlines()
    assert "waypost_destinations_stalled 1.0" in text.splitlines()
    assert "inner.example" not in text

"""Numbers that are counted on every message, and shown to Prometheus when it asks.

prometheus_client's own counters are made for threads: each increase takes a lock and checks its labels, about 1 µs,
nine times a message. All that counts here runs on the event loop, so a number is a plain one, and a family makes its
samples at a scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from waypost.net.clock import Instant


class Number:
    """One series: `number.value += 1`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Counters(Collector):
    """A counter: one series for each of `values` of its label, or one alone where there is no label ("")."""

    def __init__(self, name: str, help_text: str, label: str, values: Iterable[str], created: Instant) -> None:
        self._name = name
        self._help = help_text
        self._labels = (label,) if label else ()
        self._created = created
        self.series = {value: Number() for value in values}

    def collect(self) -> Iterable[Metric]:
        """The family, as the registry asks for it."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for value, number in self.series.items():
            family.add_metric((value,) if self._labels else (), number.value, created=self._created)
        return (family,)


class Level(Number, Collector):
    """A gauge."""

    __slots__ = ("_help", "_name")

    def __init__(self, name: str, help_text: str) -> None:
        super().__init__()
        self._name = name
        self._help = help_text

    def collect(self) -> Iterable[Metric]:
        """The family, as the registry asks for it."""
        return (GaugeMetricFamily(self._name, self._help, self.value),)


class Spread(Collector):
    """A histogram: how many observations were at most each of `bounds`, which are ascending; and their sum."""

    def __init__(self, name: str, help_text: str, bounds: Sequence[float], created: Instant) -> None:
        self._name = name
        self._help = help_text
        self._bounds = bounds
        self._created = created
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, amount: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def collect(self) -> Iterable[Metric]:
        """The family, as the registry asks for it."""
        family = HistogramMetricFamily(self._name, self._help)
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        family.add_metric((), list(zip(names, accumulate(self._counts), strict=True)), self._sum)
        family.add_sample(f"{self._name}_created", {}, self._created)
        return (family,)

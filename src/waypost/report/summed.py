"""The metrics of several processes as those of one: what each counted is added up.

Two kinds are not sums: days until something ends are those of what ends first, and when counting began is when the
first began. Not here: how a worker is asked for its metrics (waypost.life).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

#: Families whose value for the whole is the least.
_LEAST = frozenset({"waypost_oauth_days"})


def summed(texts: Sequence[str], more: Iterable[Metric] = ()) -> bytes:
    """`texts`, each in Prometheus' text format, as one in the same; `more`: families that stand beside them."""
    registry = CollectorRegistry()
    registry.register(_Families([*_added(texts), *more]))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _added(texts: Sequence[str]) -> Iterable[Metric]:
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            families.setdefault(family.name, family)
            known = values.setdefault(family.name, {})
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                known[key] = _joined(sample.name, known[key], sample.value) if key in known else sample.value
    for name, family in families.items():
        whole = Metric(name, family.documentation, family.type)
        for (sample_name, labels), value in values[name].items():
            whole.add_sample(sample_name, dict(labels), value)
        yield whole


def _joined(name: str, one: float, other: float) -> float:
    if name in _LEAST or name.endswith("_created"):
        return min(one, other)
    return max(one, other) if name.endswith("_info") else one + other

"""The metrics of several processes as those of one: what each counted is added up.

Two kinds are not sums: days until something ends are those of what ends first, and when counting began is when the
first began. A process that is begun again counts from 0; what the one before it in its place had counted, as far as it
was last heard, is added (`Gone`), so that no counter of the whole ever falls. Not here: how a worker is asked for
its metrics (waypost.life).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
_Samples: TypeAlias = dict[_Key, float]

#: Types of families that only grow.
_COUNTED: Final = frozenset({"counter", "histogram"})
#: Families whose value for the whole is the least.
_LEAST = frozenset({"waypost_oauth_days"})


def summed(texts: Sequence[str], more: Iterable[Metric] = ()) -> bytes:
    """`texts`, each in Prometheus' text format, as one in the same; `more`: families that stand beside them."""
    registry = CollectorRegistry()
    registry.register(_Families([*_added(texts), *more]))
    return generate_latest(registry)


class Gone:
    """What processes had counted that are gone, as far as they were last heard; by the place they had."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # two may ask at once, each in a thread
        self._families: dict[str, Metric] = {}
        self._began: dict[int, float] = {}
        self._last: dict[int, _Samples] = {}
        self._counts: _Samples = {}

    def text(self, told: Mapping[int, str]) -> str:
        """Their counts, as one of them would tell them. `told`: what those in each place tell, "" where nobody does."""
        with self._lock:
            return self._text(told)

    def _text(self, told: Mapping[int, str]) -> str:
        counts = dict(self._counts)
        for place, text in told.items():
            if text:
                counts = self._heard(place, list(text_string_to_metric_families(text)), counts)
            else:
                counts = _plus(counts, self._last.get(place, {}))
        registry = CollectorRegistry()
        registry.register(_Families([_with(family, counts) for family in self._families.values()]))
        return generate_latest(registry).decode()

    def _heard(self, place: int, families: Sequence[Metric], counts: _Samples) -> _Samples:
        began = max((one.value for each in families for one in each.samples if _is_beginning(one.name)), default=0.0)
        if began > self._began.get(place, began):
            self._counts = _plus(self._counts, self._last[place])
            counts = _plus(counts, self._last[place])
        counted = [family for family in families if family.type in _COUNTED]
        self._families |= {family.name: family for family in counted}
        self._began[place] = began
        self._last[place] = {_key(one): one.value for each in counted for one in each.samples}
        return counts


def _plus(one: _Samples, other: _Samples) -> _Samples:
    return {key: one.get(key, 0.0) + other.get(key, 0.0) for key in one.keys() | other.keys()}


def _with(family: Metric, counts: _Samples) -> Metric:
    """The family, with these counts."""
    found = Metric(family.name, family.documentation, family.type)
    for (name, labels), value in counts.items():
        if _key_family(name) == family.name:
            found.add_sample(name, dict(labels), value)
    return found


def _is_beginning(name: str) -> bool:
    return name.endswith("_created")


def _key_family(name: str) -> str:
    """The family that a sample of a counter or a histogram is of."""
    for suffix in ("_total", "_bucket", "_count", "_sum"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def _key(sample: Sample) -> _Key:
    return sample.name, tuple(sorted(sample.labels.items()))


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

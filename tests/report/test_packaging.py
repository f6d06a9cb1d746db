"""What is shipped for those who watch: it asks for metrics that there are, by labels that they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from waypost.queue.memory import MemoryStorage
from waypost.report.metrics import Metrics

PACKAGING = Path(__file__).parents[2] / "packaging"


@pytest.fixture(scope="module")
def samples() -> set[str]:
    """The names of all samples there can be."""
    families = list(Metrics(MemoryStorage()).registry.collect())
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
    return {family.name + ending for family in families for ending in endings.get(family.type, ("",))}


def expressions(name: str) -> Iterator[str]:
    if name.endswith(".json"):
        for panel in json.loads((PACKAGING / name).read_text("utf-8"))["panels"]:
            yield from (target["expr"] for target in panel["targets"])
    else:
        yield from re.findall(r"expr: (?:>-\n)?((?:.|\n {10})+)", (PACKAGING / name).read_text("utf-8"))


@pytest.mark.parametrize("name", ["grafana.json", "alerts.yml"])
def test_every_metric_that_is_asked_for_exists(name: str, samples: set[str]) -> None:
    asked = {metric for one in expressions(name) for metric in re.findall(r"\bwaypost_\w+", one)}
    assert len(asked) >= 8
    assert asked <= samples


def test_the_panels_do_not_cover_one_another() -> None:
    places: set[tuple[int, int]] = set()
    for panel in json.loads((PACKAGING / "grafana.json").read_text("utf-8"))["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, panel["title"]
        places |= cells

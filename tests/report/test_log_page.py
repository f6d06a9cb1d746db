"""What the page of the log's events says is what the program says."""

import re

import pytest

from tests.report.log_page import PAGE, events

ROWS = re.findall(r"^\| `(.*)` \| ([a-z, ]+) \| (.*) \| .* \|$", PAGE.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("event", "levels", "fields"), ROWS)
def test_each_event_of_the_page_is_said_so(event: str, levels: str, fields: str) -> None:
    """To print it anew: python -m tests.report.log_page."""
    said = events()[event]
    assert set(levels.split(", ")) == said.levels
    assert set(re.findall(r"`([^`]+)`", fields)) <= said.fields


def test_the_events_that_everybody_looks_for_are_on_the_page() -> None:
    told = {event: fields for event, _, fields in ROWS}
    assert {"received", "delivered", "deferred", "rejected", "in doubt", "refused", "dialogue", "report queued"} <= set(
        told
    )
    assert all(f"`{name}`" in told["received"] for name in ("id", "client", "reverse_path", "recipients", "trace"))
    assert all(f"`{name}`" in told["deferred"] for name in ("id", "recipient", "next_hop", "text", "status", "follows"))

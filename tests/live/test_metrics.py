"""The rules that are shipped, judged by Prometheus' own tool."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.process import run

pytestmark = pytest.mark.live
PACKAGING = Path(__file__).parents[2] / "packaging"


@pytest.mark.parametrize(("verb", "file"), [("check", "alerts.yml"), ("test", "alerts_test.yml")])
async def test_the_alert_rules_are_sound_and_say_what_they_are_to_say(verb: str, file: str) -> None:
    done = await run("promtool", verb, "rules", PACKAGING / file)
    assert done.code == 0, done
    assert "SUCCESS" in str(done)

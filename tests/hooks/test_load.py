"""A module is looked at without being run, and loaded with its settings; what is wrong is told with its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from waypost.hooks.load import HookError, Source, loaded, looked_at
from waypost.hooks.values import Point

GOOD = "from waypost.hooks import Pass\nasync def mail(event): return Pass()\n"


def source(tmp_path: Path, text: str) -> Source:
    (tmp_path / "policy.py").write_text(text)
    return Source("policy.py", tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def mail(event): ...", "mail is no coroutine; write async def mail(event)"),
        ("x = 1", "defines no hook"),
        ("def (", "is no Python"),
    ],
)
def test_what_is_no_hook_is_told_without_running_it(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(HookError, match=problem.replace("(", r"\(").replace(")", r"\)")):
        looked_at(source(tmp_path, text))


def test_looking_runs_nothing(tmp_path: Path) -> None:
    assert looked_at(source(tmp_path, GOOD + "raise SystemExit")) == (Point.MAIL,)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("none.py", "cannot be read"), ("no_such_module", "there is no module"), ("a.b.c", "cannot be imported")],
)
def test_a_module_that_is_nowhere_is_told(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(HookError, match=problem):
        looked_at(Source(text, tmp_path))


def test_settings_reach_configure(tmp_path: Path) -> None:
    text = GOOD + "def configure(settings): (settings['list']).append(1)\n"
    settings: dict[str, object] = {"list": []}
    assert list(loaded(source(tmp_path, text), settings)) == [Point.MAIL]
    assert settings == {"list": [1]}


@pytest.mark.parametrize(
    ("text", "settings", "problem"),
    [
        (GOOD, {"a": 1}, "no configure"),
        (GOOD + "1/0", {}, "ZeroDivisionError"),
        (GOOD + "raise SystemExit(1)", {}, "SystemExit"),
    ],
)
def test_what_fails_as_it_is_loaded_is_told(
    tmp_path: Path, text: str, settings: dict[str, object], problem: str
) -> None:
    with pytest.raises(HookError, match=problem):
        loaded(source(tmp_path, text), settings)

"""Values that are made faster are the same values."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from inspect import signature
from types import FrameType
from typing import Any

import pytest

from waypost.life.quick import quicken


@dataclass(frozen=True, slots=True)
class Slotted:
    one: int
    two: str = "2"
    three: list[int] = field(default_factory=list)
    kept: str = field(default="", init=False)
    named: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class Checked:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("below zero")


@dataclass(frozen=True)
class Derived(Checked):
    word: str = "w"


@dataclass
class Open:
    number: int


def test_a_quick_value_is_what_it_was() -> None:
    before = [Slotted(1, named=3), Checked(4), Derived(5, "x")]
    shown, signatures = list(map(repr, before)), [signature(type(one)) for one in before]
    assert quicken([Slotted, Checked, Derived, Open]) == 3
    after = [Slotted(1, named=3), Checked(4), Derived(5, "x")]
    assert list(map(repr, after)) == shown
    assert [[*signature(type(one)).parameters] for one in after] == [[*one.parameters] for one in signatures]
    assert (after, list(map(hash, after[1:]))) == (before, list(map(hash, before[1:])))
    assert replace(Slotted(1, named=3), one=2) == Slotted(2, named=3)
    assert Slotted(1).three is not Slotted(1).three
    with pytest.raises(ValueError, match="below zero"):
        Derived(-1)
    assert quicken([Slotted, Checked, Derived, Open]) == 0


@dataclass(frozen=True, slots=True)
class Base:
    number: int


@dataclass(frozen=True, slots=True)
class Upper(Base):
    word: str = "w"


def test_other_threads_make_values_meanwhile() -> None:
    """The first sample of the charts was lost to it: a guard stopped a constructor that was plain already."""
    made: list[Base] = []

    def at_each_line(frame: FrameType, _event: str, _arg: object) -> Any:
        if frame.f_code is quicken.__code__:
            made.extend([Base(1), Upper(2, "x")])
        return at_each_line

    before = sys.gettrace()
    sys.settrace(at_each_line)
    try:
        assert quicken([Base, Upper]) == 2
    finally:
        sys.settrace(before)
    assert len(made) > 10
    assert made[-1] == Upper(2, "x")


EVERY = """
import inspect, sys
import waypost.life.serving, waypost.life.quick as quick
ours = [one for one in quick._ours() if quick._is_guarded(one)]
before = [[(p.name, p.kind, repr(p.default)) for p in inspect.signature(one).parameters.values()] for one in ours]
assert quick.quicken() == len(ours) > 200, len(ours)
after = [[(p.name, p.kind, repr(p.default)) for p in inspect.signature(one).parameters.values()] for one in ours]
differ = [(a, b) for a, b in zip(before, after) if a != b and "factory" not in repr((a, b))]
assert not differ, differ
"""


def test_every_value_of_ours_takes_what_it_took() -> None:
    ran = subprocess.run([sys.executable, "-c", EVERY], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert ran.returncode == 0, ran.stderr

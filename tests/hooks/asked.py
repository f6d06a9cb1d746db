"""What tests of hooks share: hooks from plain functions, on the test's own loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from tests.virtual import VirtualClock
from waypost.hooks.calls import Hook, Hooks, Module
from waypost.hooks.runtime import Inline
from waypost.hooks.values import Point

BUDGET = timedelta(seconds=5)


@dataclass
class Heard:
    """A log that remembers."""

    asked: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def hook_asked(self, hook: str, seconds: float) -> None:
        self.asked.append(hook)

    def hook_failed(self, hook: str, why: str, seconds: float) -> None:
        self.failed.append((hook, why))


def module(name: str = "policy", /, **hooks: Hook) -> Module:
    """A module of these hooks."""
    found = {Point(key): hook for key, hook in hooks.items()}
    return Module(name, f"waypost.toml:{len(name)}", BUDGET, found, Inline())


def hooks(*modules: Module, heard: Heard | None = None) -> Hooks:
    return Hooks(modules, VirtualClock(), heard or Heard())

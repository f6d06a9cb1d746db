"""Asking hooks: one after the other in the order of the configuration, each within its budget; what fails, defers.

Not here: where their code runs (runtime.py), and what is done with a verdict (receive/session.py, deliver/runner.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from waypost.hooks.change import changed
from waypost.hooks.runtime import Failed, Runtime
from waypost.hooks.values import (
    ALLOWED,
    Change,
    Connect,
    Data,
    Defer,
    Delivery,
    Ended,
    Event,
    MailFrom,
    Pass,
    Point,
    RcptTo,
    Redirect,
    Refuse,
    Routing,
    Via,
)
from waypost.net.clock import Clock, SystemClock

Hook: TypeAlias = Callable[[Any], Coroutine[object, object, object]]


class HookLog(Protocol):
    """Who hears what hooks do. Must not block."""

    def hook_asked(self, hook: str, seconds: float) -> None:
        """It came to a verdict."""
        ...

    def hook_failed(self, hook: str, why: str, seconds: float) -> None:
        """It came to none; the message was deferred."""
        ...


class NoHookLog:
    """Tells nobody."""

    def hook_asked(self, hook: str, seconds: float) -> None:
        pass

    def hook_failed(self, hook: str, why: str, seconds: float) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Module:
    """One module's hooks. `place`: the line of the configuration that names it."""

    name: str
    place: str
    budget: timedelta
    hooks: Mapping[Point, Hook]
    runtime: Runtime


@dataclass(frozen=True, slots=True)
class Decided:
    """What the hooks at one point came to, and which of them decided ("policy.rcpt"; "" where all passed)."""

    verdict: Pass | Refuse | Defer | Redirect | Via | Data
    by: str = ""
    place: str = ""


_PASSED: Final = Decided(Pass())


@dataclass(frozen=True, slots=True)
class Hooks:
    """All modules, in order."""

    modules: tuple[Module, ...]
    clock: Clock
    log: HookLog = field(default_factory=NoHookLog)

    def at(self, point: Point) -> bool:
        """Whether anybody is to be asked there."""
        return any(point in module.hooks for module in self.modules)

    @property
    def names(self) -> Sequence[str]:
        """Each hook, as log and metrics call it."""
        return [f"{module.name}.{point.value}" for module in self.modules for point in module.hooks]

    async def ask(self, point: Point, event: Connect | MailFrom | RcptTo | Routing | Delivery) -> Decided:
        """The first verdict that is not to pass."""
        async for decided in self._each(point, lambda: event):
            if not isinstance(decided.verdict, Pass):
                return decided
        return _PASSED

    async def data(self, data: Data) -> Decided:
        """The message as all of them leave it, or the first refusal. Each sees what those before it have changed."""
        seen = [data]
        async for decided in self._each(Point.DATA, lambda: seen[-1]):
            match decided.verdict:
                case Refuse() | Defer():
                    return decided
                case Data() as after:
                    seen.append(after)
                case _:
                    pass
        return Decided(seen[-1])

    async def heard(
        self, point: Point, event: Connect | MailFrom | RcptTo | Routing | Delivery
    ) -> AsyncIterator[Decided]:
        """Each hook's verdict, up to the first that is not to pass: what `ask` comes to, step by step."""
        async for decided in self._each(point, lambda: event):
            yield decided
            if not isinstance(decided.verdict, Pass):
                return

    async def ended(self, event: Ended) -> None:
        """Tell of an attempt's end. What fails here is logged, and costs nothing."""
        async for _ in self._each(Point.AFTER_OUTCOME, lambda: event):
            pass

    def close(self) -> None:
        """Ask nobody any more."""
        for module in self.modules:
            module.runtime.close()

    async def _each(self, point: Point, event: Callable[[], Event]) -> AsyncIterator[Decided]:
        for module in self.modules:
            if point in module.hooks:
                yield await self._one(module, point, event())

    async def _one(self, module: Module, point: Point, event: Event) -> Decided:
        name, began = f"{module.name}.{point.value}", self.clock.monotonic()
        said = await module.runtime.run(partial(module.hooks[point], event), module.budget)
        verdict = self._judged(point, event, said)
        seconds = self.clock.monotonic() - began
        if isinstance(verdict, Failed):
            self.log.hook_failed(name, verdict.why, seconds)
            return Decided(Defer(f"the hook {name} failed; try again later", status="4.3.0"), name, module.place)
        self.log.hook_asked(name, seconds)
        return Decided(verdict, name, module.place)

    @staticmethod
    def _judged(point: Point, event: Event, said: object) -> Pass | Refuse | Defer | Redirect | Via | Data | Failed:
        if isinstance(said, Failed):
            return said
        if said is None and point is Point.AFTER_OUTCOME:
            return Pass()
        if not isinstance(said, ALLOWED[point]):
            allowed = ", ".join(kind.__name__ for kind in ALLOWED[point])
            return Failed(f"returned {type(said).__name__}, which is none of {allowed}")
        if isinstance(said, Redirect) and not said.to:
            return Failed("returned a Redirect to nobody")
        if isinstance(said, Change) and isinstance(event, Data):
            try:
                return changed(event, said)
            except (ValueError, TypeError, AttributeError) as error:
                return Failed(f"returned a Change that cannot be made: {error}")
        if isinstance(said, Pass | Refuse | Defer | Redirect | Via):
            return said
        return Failed(f"returned {type(said).__name__} out of place")


#: Nobody has a say beside the service.
NO_HOOKS: Final = Hooks((), SystemClock())

"""What the dashboard shows beside the desk's answers: flow, certificates and authorisations, the configuration.

Facts of the running service alone; the command line has its own ways to them. The wiring brings them (app).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from waypost.admin.answers import Expiries, Expiring
from waypost.admin.flow import FlowKeeper, no_totals
from waypost.net.clock import Clock, SystemClock
from waypost.queue.storage import Counts

HIDDEN: Final = "••••••"
_SECRET: Final = re.compile(
    r"""^(\s*"?[\w-]*(?:password|passwd|secret|token|private|credential|api_key)[\w-]*"?\s*=\s*)(\S.*)$""",
    re.IGNORECASE,
)
#: A file or a command in a secret's place is no secret, nor is a place where one is asked for.
_PLACES: Final = re.compile(r"(?:_file|_command|_url|_endpoint)\s*\"?\s*=", re.IGNORECASE)
_IN_URL: Final = re.compile(r"(://[^/\s:@\"']+:)[^@\s\"']+@")
_INLINE: Final = re.compile(r"""\b((?:password|secret|token)\s*=\s*)("(?:[^"\\]|\\.)*"|'[^']*')""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ConfigText:
    """The configuration as it was read, secrets hidden. `where`: its file."""

    where: str
    text: str


def _nothing() -> Sequence[Expiring]:
    return ()


async def _no_counts() -> Counts:
    return Counts(0, 0, 0, 0)


def _no_flow() -> FlowKeeper:
    return FlowKeeper(no_totals, _no_counts, SystemClock())


@dataclass(frozen=True, slots=True)
class Board:
    """Whom the dashboard asks."""

    flow: FlowKeeper = field(default_factory=_no_flow)
    expiring: Callable[[], Sequence[Expiring]] = _nothing
    config: ConfigText = ConfigText("", "")
    clock: Clock = field(default_factory=SystemClock)


def soonest_first(found: Iterable[Expiring]) -> Expiries:
    """What ends first first, and each once."""
    by_name = {(one.kind, one.name): one for one in found}
    return Expiries(tuple(sorted(by_name.values(), key=lambda one: (one.ends or 4e9, one.name))))


def hide_secrets(text: str) -> str:
    """A configuration to be shown: values whose keys speak of secrets are hidden, and passwords in URLs."""
    return "\n".join(_hide(line) for line in text.splitlines())


def _hide(line: str) -> str:
    if not _PLACES.search(line):
        line = _SECRET.sub(rf'\1"{HIDDEN}"', line)
    return _INLINE.sub(rf'\1"{HIDDEN}"', _IN_URL.sub(rf"\1{HIDDEN}@", line))

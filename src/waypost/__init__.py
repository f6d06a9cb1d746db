"""Waypost: an internet mail service that never stops, never loses a message, and always tells you why.

A message moves one way, and the folders say so: receive → queue → route → deliver → report.
docs/flow.md walks through them; docs/design.md gives the reasons.
"""

import gc
from importlib.util import find_spec

__version__ = "0.1.0"


def is_compiled() -> bool:
    """Whether the modules that every message passes through run as C extensions (docs/howto/compile.md)."""
    found = find_spec("waypost.smtp.framing")
    return found is not None and not str(found.origin).endswith(".py")


def with_build(version: str, *, compiled: bool) -> str:
    """A version as it is told to people, with what runs of it."""
    return f"{version} ({'compiled' if compiled else 'pure Python'})"


def collect_seldom() -> None:
    """Let the collector of cycles look less often, from a process' first step on.

    Importing makes some hundred thousand objects that stay, and a tenth of the start was spent looking through them;
    a message in passing leaves few cycles.
    """
    gc.set_threshold(50_000, 20, 50)

"""The W3C trace context that a message carries through the queue: which trace it belongs to, and under which span.

https://www.w3.org/TR/trace-context/ §3.2. Kept as the text of its `traceparent`; what is none is as if nothing had been
said (§4.3). Pure. Not here: who makes spans (report/tracing.py). `tracestate` is not carried.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Of version 00 nothing may follow; later versions may say more, which is left out (§3.2.4).
_FORM: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_SAMPLED: Final = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Numbers of 128 and 64 bits, neither of them 0. `is_sampled`: whether somebody is to keep its spans."""

    trace: int
    span: int
    is_sampled: bool

    def __str__(self) -> str:
        """As `traceparent` has it."""
        return f"00-{self.trace:032x}-{self.span:016x}-{int(self.is_sampled):02x}"


class NoContext:
    """Nothing was said, or nothing of sense."""


NO_CONTEXT: Final = NoContext()


def trace_context(text: str) -> TraceContext | NoContext:
    """What a `traceparent` says."""
    found = _FORM.fullmatch(text.strip())
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["rest"]):
        return NO_CONTEXT
    trace, span = int(found["trace"], 16), int(found["span"], 16)
    if not (trace and span):
        return NO_CONTEXT
    return TraceContext(trace, span, bool(int(found["flags"], 16) & _SAMPLED))


def traceparent(text: str) -> str:
    """The same, written anew; "" where it says nothing of sense."""
    found = trace_context(text)
    return str(found) if isinstance(found, TraceContext) else ""


def trace_of(text: str) -> str:
    """The trace's id, as a log has it, of a `traceparent` that was written by us; "" of none."""
    return text[3:35]

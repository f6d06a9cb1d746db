"""The log: one line an event, as JSON for machines or coloured for a terminal, gathered and written in batches.

Lines wait at most `LINGER` before they are written together, so that a line costs the mail it is about some ten
microseconds and no system call; a warning, and whatever worse, is handed over at once with all that waits.

Not here: how lines get to their reader, or are lost (pen.py), and what is said of mail (journal.py).
"""

from __future__ import annotations

import asyncio
import atexit
import logging
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from waypost.mail.explain import plain
from waypost.net.clock import Clock, Instant
from waypost.report.pen import Pen

LINGER: Final = timedelta(milliseconds=100)
#: Octets that wait at most.
BOUND: Final = 64 * 1024

EventDict: TypeAlias = MutableMapping[str, Any]

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def timestamp(instant: Instant) -> str:
    """The instant as the log writes it: UTC to the millisecond, `2026-01-01T00:00:00.000Z`."""
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_NONE: Final[Mapping[str, object]] = {}


class Sink:
    """Where finished lines gather. Its methods are named as structlog calls them."""

    def __init__(self, pen: Pen) -> None:
        self.pen = pen
        self._lines: deque[bytes] = deque()
        self._waiting = 0  # octets
        self._flush_due_on: asyncio.AbstractEventLoop | _NoLoop = _NoLoop()

    def gather(self, line: bytes) -> None:
        """Take a line, to be written soon."""
        self._lines.append(line)
        self._waiting += len(line)
        if self._waiting > BOUND:
            self.flush()
        else:
            self._flush_soon()

    def write_now(self, line: bytes) -> None:
        """Take a line and write it, after all that waits."""
        self._lines.append(line)
        self.flush()

    debug = info = gather
    warning = error = critical = write_now

    def flush(self) -> None:
        """Write what waits; never raises."""
        self._flush_due_on = _NoLoop()
        self._waiting = 0
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if lines:
            self.pen.write(lines)

    def _flush_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # at start, at exit, on another thread: nobody would come back for it
            self.flush()
            return
        if self._flush_due_on is not loop:
            self._flush_due_on = loop
            loop.call_later(LINGER.total_seconds(), self.flush)


class _NoLoop:
    """No flush is due."""


class Log:
    """The log of this process: `info`, `warning` and the rest through `logger`, cheap to ask whether they are said."""

    def __init__(
        self,
        pen: Pen,
        *,
        level: str,
        pretty: bool,
        clock: Clock,
        colors: bool = False,
        fields: Mapping[str, object] = _NONE,
        journald: bool = False,
    ) -> None:
        """`level`: the least that is said: debug, info, warning or error. `pretty`: for a person at a terminal.

        `fields`: what every line says besides. `journald`: entries for systemd's journal, in place of lines.
        """
        self.sink = Sink(pen)
        self.says_debug = _LEVELS[level] <= logging.DEBUG
        self.says_info = _LEVELS[level] <= logging.INFO
        self._render = _renderer(clock, fields, pretty=pretty, colors=colors, journald=journald)
        self._processors = [self._render]
        self._wrapper = structlog.make_filtering_bound_logger(_LEVELS[level])
        self.logger: FilteringBoundLogger = structlog.wrap_logger(
            self.sink, processors=self._processors, wrapper_class=self._wrapper
        ).bind()

    def info(self, event: str, fields: EventDict) -> None:
        """Say what `logger.info(event, **fields)` would; `fields` may be changed.

        For the lines that every message writes: structlog's way from a call to the renderer costs more than rendering.
        """
        if self.says_info:
            fields["event"] = event
            self.sink.gather(self._render(self, "info", fields))

    def become_default(self) -> None:
        """Let `structlog.get_logger()` lead here, and write what waits when the interpreter ends."""
        structlog.configure(
            processors=self._processors, wrapper_class=self._wrapper, logger_factory=lambda *_: self.sink
        )
        atexit.register(self.close)

    def close(self) -> None:
        """See what waits written; what is said afterwards is written as before."""
        self.sink.flush()
        self.sink.pen.close()


def _renderer(
    clock: Clock, fields: Mapping[str, object], *, pretty: bool, colors: bool, journald: bool
) -> Callable[[object, str, EventDict], bytes]:
    if journald:
        from waypost.report.journald import Entry  # noqa: PLC0415 - it needs what stands here

        return Entry(fields)
    return _Pretty(clock, fields, colors=colors) if pretty else _Json(clock, fields)


class _Json:
    """A line of JSON that begins with time, level and event."""

    def __init__(self, clock: Clock, always: Mapping[str, object] = _NONE) -> None:
        self._clock = clock
        self._always = always
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._second = 0
        self._prefix = ""

    def __call__(self, _logger: object, level: str, fields: EventDict) -> bytes:
        line = {"time": self._stamp(), "level": level, "event": fields.pop("event", ""), **self._always}
        if "exc_info" in fields:
            structlog.processors.format_exc_info(_logger, level, fields)
        line.update(fields)
        try:
            return self._encode(line) + b"\n"
        except UnicodeEncodeError:  # half a surrogate: an octet of a peer's that is no text
            return self._encode({key: plain(str(value)) for key, value in line.items()}) + b"\n"

    def _stamp(self) -> str:
        """`timestamp` of now; all but the milliseconds is worked out once a second."""
        now = self._clock.now()
        second = int(now)
        if second != self._second:
            self._second, self._prefix = second, timestamp(second)[:-4]
        return f"{self._prefix}{int((now - second) * 1000):03d}Z"


class _Pretty:
    """A line in colours, for a terminal."""

    def __init__(self, clock: Clock, always: Mapping[str, object] = _NONE, *, colors: bool) -> None:
        self._clock = clock
        self._always = always
        self._render = structlog.dev.ConsoleRenderer(
            colors=colors,
            sort_keys=False,
            timestamp_key="time",
            # The other formatter shows local variables: addresses, credentials, whatever is at hand.
            exception_formatter=structlog.dev.plain_traceback,
        )

    def __call__(self, logger: object, level: str, fields: EventDict) -> bytes:
        fields["time"], fields["level"] = timestamp(self._clock.now()), level
        fields.update(self._always)
        return (self._render(logger, level, fields) + "\n").encode("utf-8", "backslashreplace")

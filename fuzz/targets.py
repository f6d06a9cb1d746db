"""Which targets there are, what is kept of their inputs, and how an input is cut into settings and speech."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from waypost.smtp.framing import CommandReader

ROOT: Final = Path(__file__).parent
NAMES: Final = (
    "server",
    "client",
    "paths",
    "parameters",
    "body",
    "config",
    "dsn",
    "dns",
    "proxy",
    "sasl",
    "sts",
    "dane",
)


def target(name: str) -> Callable[[bytes], None]:
    """The function of a target."""
    one: Callable[[bytes], None] = importlib.import_module(f"fuzz.fuzz_{name}").one
    return one


def corpus(name: str) -> Path:
    """Where its kept inputs lie."""
    return ROOT / "corpus" / name


def kept(name: str) -> Sequence[Path]:
    """Its kept inputs, by name."""
    return sorted(path for path in corpus(name).iterdir() if path.is_file())


def head(octets: bytes, count: int) -> tuple[bytes, bytes]:
    """The first `count` octets, as if there were enough, and the rest."""
    return octets[:count].ljust(count, b"\0"), octets[count:]


def command_line(octets: bytes) -> str:
    """The first command line in `octets`, as parsers get to see it; "" where there is none."""
    reader = CommandReader()
    reader.feed(octets.partition(b"\n")[0].rstrip(b"\r") + b"\r\n")
    line = reader.next_line()
    return line if isinstance(line, str) else ""


def segments(octets: bytes, size: int) -> Iterator[bytes]:
    """`octets` in pieces of `size`; 0: whole."""
    size = size or len(octets) or 1
    for start in range(0, len(octets), size):
        yield octets[start : start + size]

"""Reverse-paths and forward-paths: what is taken can be written down and read again, and breaks no line."""

from __future__ import annotations

from fuzz.targets import command_line
from waypost.smtp.framing import _CONTROLS
from waypost.smtp.path import PathError, bracketed, parse_forward_path, parse_reverse_path, split_path


def one(octets: bytes) -> None:
    text = command_line(octets)
    for parse in (parse_reverse_path, parse_forward_path):
        for utf8 in (False, True):
            try:
                path = parse(split_path(text)[0], utf8=utf8)
            except PathError as error:
                str(error).encode("utf-8", "backslashreplace")
                continue
            written = bracketed(path)
            assert not _CONTROLS.search(written), written
            assert utf8 or written.isascii(), written
            assert parse(written, utf8=utf8) == path
            written.encode()

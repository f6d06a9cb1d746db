"""A power cut at any moment, replayed: what the disk may hold then, from a record of what the service asked of it.

strace writes down each write, sync, rename and reply of the running service with its octets. `Disk` follows that record
and keeps apart what has been synced from what has not. Cut off at any line of it, `Disk.image` makes the files as they
may be found when the machine comes up again: all that a completed fsync covered, and of the rest what chance wants, by
sectors, in any order.

The model is stricter than most file systems: a new name is only safe once its directory was synced. It is kinder in
one thing: names within one directory change in order, and a rename is whole (as journals see to it).
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

SECTOR = 512
"""What a disk writes whole."""

_FORESEEN = "openat,mkdir,pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync,ftruncate,fallocate,rename,unlink"
_UNFORESEEN = "renameat,renameat2,unlinkat,link,linkat,mkdirat,pwritev,sync_file_range,truncate"
WAYPOST = ("-m", "waypost")


def recorded(record: Path, *options: str, program: tuple[str, ...] = WAYPOST) -> tuple[str, ...]:
    """What stands between the interpreter and `serve`, so that strace writes the record (behind what it has already).

    `options` are strace's; those that tamper with syncs make the disk a liar.
    """
    strace = f"strace -D -A -f -y -xx -s 1000000 -o {record} -e trace={_FORESEEN},{_UNFORESEEN}".split()
    run = "import os, sys; os.execvp('strace', sys.argv[1:])"
    return ("-c", run, *strace, *options, sys.executable, *program)


# ---- the record
@dataclass(frozen=True, slots=True)
class Event:
    """A call that returned well. `begun` and `ended` are lines of the record; `file` is "" for a socket."""

    call: str
    begun: int
    ended: int
    file: str = ""
    other: str = ""  # the new name of a rename; the flags of an open
    octets: bytes = b""
    at: int = -1  # offset, or size


_BEGINS = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESUMES = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"^(?:\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
_RESULT = re.compile(r"\) += (-?\d+)([^\n]*)$")


def events(record: Path) -> Iterator[Event]:
    """The calls that succeeded, in the order in which they returned; a call that was tampered with never happened."""
    begun: dict[tuple[str, str], tuple[int, str]] = {}
    with record.open() as lines:
        for number, line in enumerate(lines):
            if begins := _BEGINS.match(line):
                thread, call, rest = begins.groups()
                if rest.endswith("<unfinished ...>"):
                    begun[thread, call] = (number, rest.removesuffix("<unfinished ...>"))
                    continue
                since = number
            elif resumes := _RESUMES.match(line):
                thread, call, rest = resumes.groups()
                since, before = begun.pop((thread, call), (-1, ""))
                rest = before + rest
            else:
                continue
            result = _RESULT.search(rest)
            if since >= 0 and not result:  # "= ?": the process was killed meanwhile
                begun[thread, call] = (since, rest)
            if since >= 0 and result and not result[1].startswith("-") and "INJECTED" not in result[2]:
                yield _event(call, since, number, rest[: result.start()])
    for (_, call), (since, rest) in begun.items():
        if "\\x73\\x6f\\x63\\x6b\\x65\\x74" in rest and call in {"write", "writev", "sendto", "sendmsg"}:
            yield _event(call, since, since, rest)  # a reply that may have gone out before the process was killed


def _event(call: str, begun: int, ended: int, arguments: str) -> Event:
    strings = [_octets(text) for text in _STRING.findall(arguments)]
    descriptor = _DESCRIPTOR.match(arguments)
    opened = _octets(descriptor[1]).decode() if descriptor else ""
    last = arguments.rpartition(",")[2].strip()
    match call:
        case "openat":
            return Event(call, begun, ended, strings[0].decode(), other=arguments)
        case "mkdir" | "unlink":
            return Event(call, begun, ended, strings[0].decode())
        case "rename":
            return Event(call, begun, ended, strings[0].decode(), other=strings[1].decode())
        case "ftruncate":
            return Event(call, begun, ended, opened, at=int(last))
        case "pwrite64":
            return Event(call, begun, ended, opened, octets=strings[0], at=int(last))
        case "fallocate":
            return Event(call, begun, ended, opened, octets=bytes(int(last)), at=0)
        case _:
            is_socket = opened.startswith(("socket:", "pipe:", "anon_inode:"))
            return Event(call, begun, ended, "" if is_socket else opened, octets=b"".join(strings))


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


# ---- the disk
@dataclass(slots=True, eq=False)
class File:
    """One file's octets: those that are safe, and the changes that are not. A change is (line, offset, octets)."""

    safe: bytearray = field(default_factory=bytearray)
    changes: list[tuple[int, int, bytes]] = field(default_factory=list)  # octets b"" at offset: cut to that size
    end: int = 0  # where the next `write` goes

    @property
    def is_empty(self) -> bool:
        """Whether whoever reads it now finds nothing."""
        return self.changes[-1][1:] == (0, b"") if self.changes else not self.safe

    def sync(self, begun: int) -> None:
        """An fsync has returned: what had returned before it was begun is safe."""
        for line, at, octets in self.changes:
            if line < begun:
                _change(self.safe, at, octets)
        self.changes = [change for change in self.changes if change[0] >= begun]

    def after_cut(self, dice: random.Random) -> bytes:
        """What may be found. Each sector is as it was after any one of the changes that touched it, or before."""
        found = bytearray(self.safe)
        kept = dice.choice(("none", "all", "some", "some", "torn", "torn"))
        upto = 0
        for number, (_, _, octets) in enumerate(self.changes):  # what comes before a cut to size went in order
            if not octets and dice.random() < 0.5:
                for _, earlier_at, earlier in self.changes[upto : number + 1]:
                    _change(found, earlier_at, earlier)
                upto = number + 1
        for _, at, octets in self.changes[upto:]:
            if not octets or kept == "none" or (kept == "some" and dice.random() < 0.5):
                continue
            if kept == "torn":
                _tear(found, at, octets, dice)
            else:
                _change(found, at, octets)
        return bytes(found)


def _change(content: bytearray, at: int, octets: bytes) -> None:
    if not octets:
        del content[at:]
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    content[at : at + len(octets)] = octets


def _tear(content: bytearray, at: int, octets: bytes, dice: random.Random) -> None:
    """Write some of the sectors."""
    start = at
    while start < at + len(octets):
        stop = min((start // SECTOR + 1) * SECTOR, at + len(octets))
        if dice.random() < 0.5:
            _change(content, start, octets[start - at : stop - at])
        start = stop


Entry = tuple[str, File | bool | None]  # a name, and what it is from now on: a file, a directory (True), nothing (None)


@dataclass(slots=True)
class Disk:
    """The files below `root`, which itself is safe. `ignored`: ends of names that mean nothing to the next process."""

    root: str
    ignored: tuple[str, ...] = ("queue.db-shm", "lock", ".log", ".toml")
    names: dict[str, File | bool] = field(default_factory=dict)
    safe_names: dict[str, File | bool] = field(default_factory=dict)
    changes: dict[str, list[tuple[int, tuple[Entry, ...]]]] = field(default_factory=dict)  # by directory

    def follow(self, event: Event) -> None:
        """Let a call happen."""
        if event.call in _UNFORESEEN.split(",") and event.file.startswith(self.root):
            raise AssertionError(f"the model does not know {event}")
        if not event.file.startswith(self.root + "/") and event.file != self.root:
            return
        if event.file.endswith(self.ignored):
            return
        match event.call:
            case "openat":
                if "O_CREAT" in event.other and event.file not in self.names:
                    self._rename(event, (event.file, File()))
            case "mkdir":
                self._rename(event, (event.file, True))
            case "unlink":
                self._rename(event, (event.file, None))
            case "rename":
                moved = self.names[event.file]
                self._rename(event, (event.file, None), (event.other, moved))
            case "fsync" | "fdatasync":
                self._sync(event)
            case _:
                self._write(event)

    def _write(self, event: Event) -> None:
        file = self.names.get(event.file.removesuffix(" (deleted)"))
        if not isinstance(file, File):
            return
        if event.call == "fallocate" and not file.is_empty:
            raise AssertionError(f"the model knows room made in empty files alone, not {event.file}")
        at = file.end if event.call == "write" else event.at
        if event.call == "write":
            file.end += len(event.octets)
        file.changes.append((event.ended, at, event.octets))

    def _rename(self, event: Event, *entries: Entry) -> None:
        for name, what in entries:
            if what is None:
                self.names.pop(name, None)
            else:
                self.names[name] = what
        for directory in {str(PurePosixPath(name).parent) for name, _ in entries}:
            mine = tuple(entry for entry in entries if str(PurePosixPath(entry[0]).parent) == directory)
            self.changes.setdefault(directory, []).append((event.ended, mine))

    def _sync(self, event: Event) -> None:
        file = self.names.get(event.file)
        if isinstance(file, File):
            file.sync(event.begun)
            return
        changes = self.changes.get(event.file, [])
        for line, entries in changes:
            if line < event.begun:
                _enter(self.safe_names, entries)
        self.changes[event.file] = [change for change in changes if change[0] >= event.begun]

    def image(self, target: Path, dice: random.Random) -> None:
        """The files as they may be found after a cut now, below `target`."""
        names = dict(self.safe_names)
        for changes in self.changes.values():
            for _, entries in changes[: dice.randint(0, len(changes))]:
                _enter(names, entries)
        for name in sorted(names):
            place = target / PurePosixPath(name).relative_to(self.root)
            if not place.parent.is_dir():
                continue  # a directory above it never was safe: nobody finds it
            what = names[name]
            if isinstance(what, File):
                place.write_bytes(what.after_cut(dice))
            else:
                place.mkdir()


def _enter(names: dict[str, File | bool], entries: tuple[Entry, ...]) -> None:
    for name, what in entries:
        if what is None:
            names.pop(name, None)
        else:
            names[name] = what

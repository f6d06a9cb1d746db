"""What becomes of another mail server's configuration: our TOML as it is put together, and what is left to tell.

Not here: reading the other's (postfix.py, exim.py), and writing files (moving.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from waypost.config.reference import toml


@dataclass(slots=True)
class Translation:
    """What came of it. `files`: others that the configuration names, by name; secrets are among them."""

    text: str = ""
    files: dict[str, str] = field(default_factory=dict)
    #: What carries over only with a change of meaning, or not at all: the setting, and what to do about it.
    left: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Sheet:
    """A waypost.toml being written: sections in their order, and the routes after them."""

    sections: list[str] = field(default_factory=list)
    routes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    left: list[tuple[str, str]] = field(default_factory=list)

    def add(self, head: str, **settings: object) -> None:
        """One more section; settings that are empty are not written."""
        self.sections.append(section(head, **settings))

    def route(self, domains: Sequence[str], target: object, **more: object) -> None:
        """One more route."""
        self.routes.append(section("[[route]]", domains=list(domains), to=target, **more))

    def leave(self, setting: str, why: str) -> None:
        """Tell of what does not carry over as it was."""
        self.left.append((setting, why))

    def file(self, wish: str, text: str) -> str:
        """A file beside waypost.toml, by a name that is free; its name."""
        name, number = wish, 1
        while name in self.files and self.files[name] != text:
            number += 1
            name = f"{wish}-{number}"
        self.files[name] = text
        return name

    def map(self, wish: str, text: str) -> str:
        """A table beside waypost.toml, and the `[[map]]` that reads it; its name. The same text is written once."""
        for name, known in self.files.items():
            if known == text and f'file = "{name}"' in "".join(self.sections):
                return name
        name = self.file(wish, text)
        self.add("[[map]]", name=name, file=name)
        return name

    def translation(self) -> Translation:
        """All of it."""
        return Translation("\n".join(self.sections + self.routes), self.files, self.left)


def section(head: str, **settings: object) -> str:
    """A table of the file, without the settings that are empty."""
    lines = [f"{key} = {toml(value)}" for key, value in settings.items() if value not in ("", [], ())]
    return "\n".join([head, *lines, ""])


def file_name(path: str) -> str:
    """What a table of theirs is called here: `/etc/postfix/virtual.txt` is `virtual-txt`."""
    return re.sub(r"[^a-z0-9]+", "-", Path(path).name.lower()).strip("-") or "table"


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())

"""The program `waypost`: the commands of admin/program.py, and those that run the service itself."""

from __future__ import annotations

import sys
from typing import Final

import typer

from waypost import collect_seldom
from waypost.admin.program import commands

_OWN: Final = {"serve": "waypost.life.commands:serve", "demo": "waypost.life.commands:demo"}


def program(asked: str = "") -> typer.Typer:
    """Every command there is; or the one alone that `asked` names, which takes a fraction of the time."""
    return commands(asked, _OWN)


def main() -> None:
    """The console script. A pipe that is closed early (`waypost queue list | head`) is no error of ours."""
    collect_seldom()
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    if asked == "serve":
        from waypost.life.hangup import keep_back  # noqa: PLC0415 - no other command has a use for it

        keep_back()
    try:
        program("version" if asked == "--version" else asked)()
    except BrokenPipeError:
        from waypost.admin.terminal import fail  # noqa: PLC0415 - `--version` can do without it

        fail("nobody reads the answer any more", "nothing need be done", code=1)


if __name__ == "__main__":
    main()

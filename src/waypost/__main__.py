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


def _is_text(argument: str) -> bool:
    """Whether it was UTF-8; what was not, Python hands over as surrogates, which nothing else can write."""
    return not any("\ud800" <= each <= "\udfff" for each in argument)


def main() -> None:
    """The console script. A pipe that is closed early (`waypost queue list | head`) is no error of ours."""
    collect_seldom()
    unreadable = next((each for each in sys.argv if not _is_text(each)), "")
    if unreadable:
        sys.stderr.write(
            f"waypost: an argument is no UTF-8: {unreadable!a}\n         see what the terminal is set to\n"
        )
        sys.exit(2)
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

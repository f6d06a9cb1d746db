"""The printed manual is current, and every command says what a person needs to use it."""

import re
import shutil
import subprocess

import pytest

from tests.cli.manual import DOCS, pages
from waypost.__main__ import program
from waypost.admin.manpage import Command, walk

COMMANDS = list(walk(program()))


@pytest.mark.parametrize("path", list(pages()), ids=lambda path: str(path.name))
def test_the_printed_manual_is_current(path: object) -> None:
    [(file, text)] = [(file, text) for file, text in pages().items() if file == path]
    assert file.read_text("utf-8") == text, "run: python -m tests.cli.manual"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_a_short_summary_an_example_and_helpful_options(command: Command) -> None:
    assert len(command.summary) <= 70
    assert command.example.startswith(command.name)
    assert all(parameter.help.endswith(".") for parameter in command.parameters)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_manual_shows_what_is_typed_and_no_name_of_python_s(command: Command) -> None:
    """It told of `cluster drain None`, `spool move Ellipsis TEXT`, the role `Role.VIEWER`, 24.0 seconds of hours."""
    for parameter in command.parameters:
        assert not re.match(r"None|Ellipsis", parameter.spelling), parameter
        assert not re.search(r"^[A-Z]\w*\.|\d\.0$", parameter.default), parameter


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_that_answers_can_answer_in_json(command: Command) -> None:
    assert "--json" in [parameter.spelling for parameter in command.parameters]


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man(1) on this machine")
@pytest.mark.parametrize("page", ["waypost.1", "waypost.toml.5"])
def test_man_renders_the_pages_without_a_complaint(page: str) -> None:
    done = subprocess.run(  # noqa: S603 - no input but our own pages
        ["man", "--warnings", "-l", str(DOCS / "man" / page)],  # noqa: S607 - whichever man there is
        capture_output=True,
        text=True,
        check=True,
        env={"MANROFFSEQ": "", "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "PATH": "/usr/bin:/bin"},
    )
    assert done.stderr == ""
    assert "WAYPOST" in done.stdout

"""A group of options, said once: typer sees each of them, and the command gets the group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from waypost.admin.manpage import walk
from waypost.admin.options import spread


@dataclass(frozen=True, slots=True)
class Where:
    host: Annotated[str, typer.Option("--host", help="Whom.")]
    port: Annotated[int, typer.Option("--port", help="Where.")] = 25


@dataclass(frozen=True, slots=True)
class Manner:
    quiet: Annotated[bool, typer.Option("--quiet", help="Say less.")] = False


@spread
def greet(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who.")],
    where: Where,
    *,
    times: Annotated[int, typer.Option("--times", help="How often.")] = 1,
    manner: Manner,
) -> None:
    """Greet somebody."""
    typer.echo(f"{name} {where} {times} {manner}")


def program() -> typer.Typer:
    app = typer.Typer()
    app.command("greet")(greet)
    return app


def test_a_command_gets_its_groups_filled_in() -> None:
    done = CliRunner().invoke(program(), ["ann", "--host", "mx.example", "--quiet", "--times", "3"])
    assert done.output == "ann Where(host='mx.example', port=25) 3 Manner(quiet=True)\n"


def test_what_has_no_default_has_to_be_given() -> None:
    done = CliRunner().invoke(program(), ["ann"])
    assert done.exit_code == 2
    assert "--host" in done.output


def test_options_stand_where_their_group_stands() -> None:
    (command,) = walk(program())
    assert [one.spelling.split()[0] for one in command.parameters] == ["NAME", "--host", "--port", "--times", "--quiet"]

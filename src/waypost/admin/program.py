"""The command line as a whole but for `serve` and `demo`: each command's name, and where it is.

One command needs a few of our modules, all of them together need nearly every one: what is asked for is imported alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from json import dumps
from pkgutil import resolve_name
from typing import Annotated, Final

import typer

from waypost import __version__, is_compiled, with_build

#: Each command, and the function that is it.
COMMANDS: Final = {
    "check": "waypost.admin.checking:check",
    "send": "waypost.admin.tools:send_command",
    "trace": "waypost.admin.searching:trace",
    "resolve": "waypost.admin.cli:resolve",
    "explain": "waypost.admin.cli:explain",
    "backup": "waypost.admin.backup:backup",
    "restore": "waypost.admin.backup:restore",
    "health": "waypost.admin.cli:health",
    "reload": "waypost.admin.changing:reload",
    "preview": "waypost.admin.changing:preview",
    "debug": "waypost.admin.cli:debug",
    "status": "waypost.admin.cli:status",
    "peer": "waypost.admin.tools:peer",
    "version": "waypost.admin.program:version",
}
#: Each group of commands, and the function that has them.
GROUPS: Final = {
    "queue": "waypost.admin.queueing:queue_commands",
    "quarantine": "waypost.admin.quarantining:quarantine_commands",
    "config": "waypost.admin.changing:config_commands",
    "inbox": "waypost.admin.cli:inbox_commands",
    "user": "waypost.admin.accounts:user_commands",
    "admin": "waypost.admin.admins:admin_commands",
    "oauth": "waypost.admin.oauth:oauth_commands",
    "import": "waypost.admin.moving:import_commands",
    "cluster": "waypost.admin.cluster:cluster_commands",
    "spool": "waypost.admin.cluster:spool_commands",
}

NONE: Final[Mapping[str, str]] = {}


def release() -> str:
    """What `--version` says."""
    return f"waypost {with_build(__version__, compiled=is_compiled())}"


def version(json: Annotated[bool, typer.Option("--json", help="Answer with one JSON value.")] = False) -> None:  # noqa: FBT002
    """Print the version, and whether it runs compiled.

    Example: waypost version
    """
    compiled = is_compiled()
    typer.echo(dumps({"waypost": __version__, "compiled": compiled}, indent=2) if json else release())


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer hands the flag over so
    if asked:
        typer.echo(release())
        raise typer.Exit


def _program(
    _version: Annotated[  # noqa: FBT002
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version, and exit.")
    ] = False,
) -> None:
    """What stands before any command; its help is the program's."""


def commands(asked: str = "", more: Mapping[str, str] = NONE) -> typer.Typer:
    """Every command, and `more`; or the one alone that `asked` names, if one is named so."""
    app = typer.Typer(
        name="waypost",
        help="The mail relay you can trust: it never stops, never loses a message, and always tells you why.",
        epilog="Exit codes: 0 it is as asked; 1 it is not (refused, not found, not ready, not running); "
        "2 the command was not understood.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_program)
    plain = {**COMMANDS, **more}
    for name in _wanted(asked, plain, GROUPS):
        if name in plain:
            app.command(name)(resolve_name(plain[name]))
        else:
            app.add_typer(resolve_name(GROUPS[name])(), name=name)
    return app


def _wanted(asked: str, *names: Iterable[str]) -> Iterable[str]:
    known = [*chain(*names)]
    return [asked] if asked in known else known

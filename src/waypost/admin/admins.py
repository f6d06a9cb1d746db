"""`waypost admin`: who may see and change the service over the admin API. The service reads the file by itself.

Passwords come from a prompt or standard input, never from the command line. A token is shown once, and kept nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from waypost.admin.accounts import StdinOption, asked_password, told
from waypost.admin.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, fail, show
from waypost.auth.admins import (
    Administrator,
    Role,
    changing_administrators,
    load_administrators,
    with_password,
    with_token,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A person's or a program's name.")]
RoleOption = Annotated[
    Role,
    typer.Option(
        "--role",
        metavar="viewer|operator|admin",
        help="viewer: see; operator: change the queue; admin: change the service.",
    ),
]


@dataclass(frozen=True, slots=True)
class _Shown:
    """An administrator as others may see him. `token`: only when it is made."""

    name: str
    role: Role
    by: str  # password, token
    token: str = ""


def admin_add(
    name: NameArgument,
    role: RoleOption = Role.VIEWER,
    password_stdin: StdinOption = False,  # noqa: FBT002 - a flag of the CLI
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Add a person who may log in at the dashboard.

    Example: waypost admin add alice --role operator
    """
    path = _file(config, json=json)
    with told(json=json), changing_administrators(path) as known:
        if name.lower() in known:
            fail(
                f"there is an administrator {name} already",
                "change it with `waypost admin passwd`, or remove it",
                as_json_value=json,
            )
        added = _with_password(name, role, from_stdin=password_stdin, json=json)
        known[added.name] = added
    _say(f"{added.name} may log in now, as {role.value}.", added, json=json)


def admin_token(
    name: NameArgument,
    role: RoleOption = Role.VIEWER,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Make a token for a program, or a new one: it is shown this once.

    A program sends it as `Authorization: Bearer …`; this command line takes it from WAYPOST_TOKEN.

    Example: waypost admin token prometheus --role viewer
    """
    path = _file(config, json=json)
    with told(json=json), changing_administrators(path) as known:
        if name.lower() in known and not known[name.lower()].token:
            fail(
                f"{name} is a person, who logs in with a password",
                "give the program another name",
                as_json_value=json,
            )
        try:
            added, token = with_token(name, role)
        except ValueError as error:
            fail(str(error), "nothing was changed", as_json_value=json)
        known[added.name] = added
    show(_Shown(added.name, added.role, "token", token), lambda shown: [Text(shown.token)], as_json_value=json)


def admin_passwd(
    name: NameArgument,
    password_stdin: StdinOption = False,  # noqa: FBT002
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Give a person a new password.

    Example: waypost admin passwd alice
    """
    path = _file(config, json=json)
    with told(json=json), changing_administrators(path) as known:
        old = _known(name, known, json=json)
        known[old.name] = new = _with_password(old.name, old.role, from_stdin=password_stdin, json=json)
    _say(f"{new.name} has a new password.", new, json=json)


def admin_remove(name: NameArgument, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:  # noqa: FBT002
    """Remove a person or a program.

    A session that is open lasts up to twelve hours more; a restart of the service ends it.

    Example: waypost admin remove alice
    """
    path = _file(config, json=json)
    with told(json=json), changing_administrators(path) as known:
        gone = known.pop(_known(name, known, json=json).name)
    _say(f"{gone.name} has no access any more.", gone, json=json)


def admin_list(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:  # noqa: FBT002
    """List who may see and change the service, and by what role.

    Example: waypost admin list
    """
    path = _file(config, json=json)
    with told(json=json):
        known = sorted(load_administrators(path).values(), key=lambda one: one.name)
    rows = [_shown(one) for one in known]
    show(rows, lambda said: [Text(f"{row.name}  {row.role.value}, by {row.by}") for row in said], as_json_value=json)


def admin_commands() -> typer.Typer:
    """The group `waypost admin`."""
    app = typer.Typer(help="Manage who may use the dashboard and the API.", no_args_is_help=True)
    app.command("add")(admin_add)
    app.command("token")(admin_token)
    app.command("list")(admin_list)
    app.command("passwd")(admin_passwd)
    app.command("remove")(admin_remove)
    return app


# ---- what they share
def _file(path: Path, *, json: bool) -> Path:
    found = configured(path, as_json_value=json)
    if not found.admin.users:
        fail(
            f"{found.where} names no file of administrators",
            'write [admin], and below it users = "administrators"',
            as_json_value=json,
        )
    return Path(found.admin.users)


def _known(name: str, known: dict[str, Administrator], *, json: bool) -> Administrator:
    if name.lower() not in known:
        fail(f"there is no administrator {name}", "`waypost admin list` shows who there is", as_json_value=json)
    return known[name.lower()]


def _with_password(name: str, role: Role, *, from_stdin: bool, json: bool) -> Administrator:
    try:
        return with_password(name, role, asked_password(from_stdin=from_stdin, json=json))
    except ValueError as error:
        fail(str(error), "nothing was changed", as_json_value=json)


def _shown(one: Administrator) -> _Shown:
    return _Shown(one.name, one.role, "token" if one.token else "password")


def _say(text: str, one: Administrator, *, json: bool) -> None:
    show(_shown(one), lambda _: [Text(text)], as_json_value=json)

"""`waypost user`: the accounts in the users' file, on this machine. The service reads the file again by itself.

Passwords come from a prompt or standard input, never from the command line, where every user of the machine could read
them. Not here: the file's form (waypost.auth.users).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from rich.text import Text

from waypost.admin.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, fail, show
from waypost.auth.account import Account, own_address
from waypost.auth.users import User, UsersError, changing, hashed, load_users
from waypost.config import Config

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account's name; best its address.")]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, one line, and do not ask.")
]
ActAsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--may-act-as",
        metavar="NAME|*",
        help="Another account whose rights it may ask for at its login, or any; may be repeated.",
    ),
]
CertificatesArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE]...", help="Certificates in PEM, without their keys.")
]
SendAsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--may-send-as",
        metavar="ADDRESS|DOMAIN|*",
        help="A reverse-path it may use, a domain with its sub-domains, or any; may be repeated. Else its own address.",
    ),
]


def user_add(
    name: NameArgument,
    may_send_as: SendAsOption = None,
    may_act_as: ActAsOption = None,
    password_stdin: StdinOption = False,  # noqa: FBT002 - a flag of the CLI
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Add an account that may submit mail.

    Example: waypost user add alice@example.net --may-send-as example.net
    """
    found = _users_of(config, json=json)
    with told(json=json), changing(found.users) as users:
        if name.lower() in users:
            fail(
                f"there is a user {name} already",
                "give it a new password with `waypost user passwd`",
                as_json_value=json,
            )
        added = _hashed(name, asked_password(from_stdin=password_stdin, json=json), tuple(may_send_as or ()), json=json)
        added = replace(added, may_act_as=tuple(each.lower() for each in may_act_as or ()))
        users[added.name] = added
    _say(f"{added.name} may log in now, and send as {_send_as(added, found)}.", added, found, json=json)


def user_passwd(
    name: NameArgument,
    password_stdin: StdinOption = False,  # noqa: FBT002
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Give an account a new password; what it may send as stays.

    Example: waypost user passwd alice@example.net
    """
    found = _users_of(config, json=json)
    with told(json=json), changing(found.users) as users:
        old = _known(name, users, json=json)
        new = _hashed(old.name, asked_password(from_stdin=password_stdin, json=json), old.may_send_as, json=json)
        new = replace(new, may_act_as=old.may_act_as, certificates=old.certificates)
        users[new.name] = new
    _say(f"{new.name} has a new password.", new, found, json=json)


def user_certificate(
    name: NameArgument,
    files: CertificatesArgument = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Say by which certificates an account may log in; else by none.

    They replace those it had. It logs in by AUTH EXTERNAL, where a listener has `client_ca`.

    Example: waypost user certificate printer@example.net printer.pem
    """
    found = _users_of(config, json=json)
    prints = tuple(_fingerprint(file, json=json) for file in files or ())
    with told(json=json), changing(found.users) as users:
        user = replace(_known(name, users, json=json), certificates=prints)
        users[user.name] = user
    many = f"{len(prints)} certificate{'' if len(prints) == 1 else 's'}"
    _say(f"{user.name} may log in by {many if prints else 'no certificate of its own'}.", user, found, json=json)


def user_remove(name: NameArgument, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:  # noqa: FBT002
    """Remove an account; what it has submitted goes on its way.

    Example: waypost user remove alice@example.net
    """
    found = _users_of(config, json=json)
    with told(json=json), changing(found.users) as users:
        gone = users.pop(_known(name, users, json=json).name)
    _say(f"{gone.name} can log in no more.", gone, found, json=json)


def user_list(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:  # noqa: FBT002
    """List the accounts, and what each may send as.

    Example: waypost user list
    """
    found = _users_of(config, json=json)
    with told(json=json):
        users = sorted(load_users(found.users).values(), key=lambda user: user.name)
    rows = [_row(user, found) for user in users]
    show(
        rows,
        lambda said: [Text(f"{row.name}  sends as {', '.join(row.may_send_as)}") for row in said],
        as_json_value=json,
    )


def user_commands() -> typer.Typer:
    """The group `waypost user`."""
    app = typer.Typer(help="Manage the accounts that may submit mail.", no_args_is_help=True)
    app.command("add")(user_add)
    app.command("list")(user_list)
    app.command("passwd")(user_passwd)
    app.command("certificate")(user_certificate)
    app.command("remove")(user_remove)
    return app


# ---- what they share
def _users_of(path: Path, *, json: bool) -> Config:
    found = configured(path, as_json_value=json)
    if not found.auth.users:
        fail(f"{found.where} names no users' file", 'write [auth], and below it users = "users"', as_json_value=json)
    return found


@contextmanager
def told(*, json: bool) -> Iterator[None]:
    """Trouble with the file ends the command, and says why."""
    try:
        yield
    except UsersError as error:
        problem, _, remedy = str(error).partition("; ")
        fail(problem, remedy or "nothing was changed", as_json_value=json)


def _known(name: str, users: dict[str, User], *, json: bool) -> User:
    if name.lower() not in users:
        fail(f"there is no user {name}", "`waypost user list` shows who there is", as_json_value=json)
    return users[name.lower()]


def asked_password(*, from_stdin: bool, json: bool) -> str:
    """A new password, from a person or a program."""
    if from_stdin:
        return sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not sys.stdin.isatty():
        fail("there is no terminal to ask at", "write --password-stdin", as_json_value=json, code=2)
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt="Again")
    return password


def _hashed(name: str, password: str, may_send_as: tuple[str, ...], *, json: bool) -> User:
    try:
        return hashed(name, password, may_send_as)
    except ValueError as error:
        fail(str(error), "nothing was changed", as_json_value=json)


def _fingerprint(file: Path, *, json: bool) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", "nothing was changed", as_json_value=json)
    except ValueError:
        fail(f"{file} holds no certificate in PEM", "nothing was changed", as_json_value=json)
    return certificate.fingerprint(SHA256()).hex()


def _send_as(user: User, config: Config) -> str:
    return ", ".join(_row(user, config).may_send_as)


def _row(user: User, config: Config) -> Account:
    own = user.may_send_as or (own_address(user.name, config.account_domain),)
    return Account(user.name, own, user.may_act_as)


def _say(text: str, user: User, config: Config, *, json: bool) -> None:
    show(_row(user, config), lambda _: [Text(text)], as_json_value=json)

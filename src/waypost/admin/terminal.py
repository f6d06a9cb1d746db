"""What every command of the command line shares: its options, whom it asks, how it prints, how it fails.

Exit codes: 0 it is as asked; 1 it is not (refused, not found, not ready, not running); 2 the command was not
understood. With `--json` the answer, or `{"error": …, "remedy": …}`, is one JSON value on standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import os
import socket
import sys
import tomllib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NoReturn, TypeVar

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.text import Text

from waypost.admin.answers import FailureKind, OperationError
from waypost.admin.client import DEFAULT_ADMIN, Asked, NoConfig, OnlyService, desk
from waypost.admin.desk import Desk
from waypost.net.clock import SystemClock
from waypost.net.stream import Endpoint

if TYPE_CHECKING:
    from waypost.config import Complaints, Config

T = TypeVar("T")

DEFAULT_CONFIG: Final = Path("waypost.toml")
#: How long an answer may take before the terminal says that we wait.
PATIENCE: Final = timedelta(seconds=1)


# ---- printing
def out() -> Console:
    """Standard output. A pipe gets whole lines, whatever the width of the terminal behind it."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    return (
        console
        if console.is_terminal
        else Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=1000)
    )


def err() -> Console:
    """Standard error: notes, progress and complaints."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def as_json(value: object) -> str:
    """`value` as one JSON text for people and programs alike."""
    return json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)


def json_line(value: object) -> str:
    """`value` as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def show(value: T, worded: Callable[[T], Iterable[RenderableType]], *, as_json_value: bool) -> None:
    """Print an answer, or end this process where it cannot be written."""
    try:
        _print([as_json(value)] if as_json_value else worded(value))
    except BrokenPipeError:
        raise  # who has read enough is content
    except OSError as error:
        let_go_of_output()
        fail(f"the answer cannot be written: {error.strerror}", "make room there, or send it elsewhere")


def _print(pieces: Iterable[RenderableType]) -> None:
    console = out()
    for piece in pieces:
        if isinstance(piece, str):
            typer.echo(piece)
        else:
            console.print(piece)


def let_go_of_output() -> None:
    """Write nothing more there: at its end the interpreter would try to, once more, and tell that it cannot."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(error: str, remedy: str, *, as_json_value: bool = False, code: int = 1) -> NoReturn:
    """Say why not and what to do, and exit."""
    if as_json_value:
        typer.echo(as_json({"error": error, "remedy": remedy}))
    else:
        err().print(Text.assemble(("waypost: ", "bold red"), f"{error}\n         {remedy}"))
    raise typer.Exit(code)


# ---- asking
@dataclass(frozen=True, slots=True)
class Context:
    """Whom to ask, and how to say the answer."""

    asked: Asked
    json: bool

    def answer(self, question: Callable[[Desk], Awaitable[T]], *, spool: bool = True) -> T:
        """The desk's answer to `question`, or the end of this process with the reason."""
        try:
            return asyncio.run(self._ask(question, spool=spool))
        except OperationError as failure:
            code = 2 if failure.kind is FailureKind.BAD_REQUEST else 1
            fail(failure.error, failure.remedy, as_json_value=self.json, code=code)

    async def _ask(self, question: Callable[[Desk], Awaitable[T]], *, spool: bool) -> T:
        async with desk(self.asked, spool=spool) as (found, whom):
            answer = await with_progress(question(found), "waiting for the answer")
            if not self.json:
                err().print(Text(whom, style="dim"))
            return answer


async def with_progress(awaited: Awaitable[T], text: str) -> T:
    """The result; on a terminal, with a sign of life where it takes longer than a second."""
    waiting = asyncio.ensure_future(awaited)
    console = err()
    done, _ = await asyncio.wait({waiting}, timeout=PATIENCE.total_seconds())
    if not done and console.is_terminal:
        with console.status(text):
            await asyncio.wait({waiting})
    return await waiting


# ---- options that many commands share
ConfigOption = Annotated[
    Path,  # whether it can be read is told by the loader, in its own words
    typer.Option("--config", "-c", envvar="WAYPOST_CONFIG", readable=False, help="The configuration file."),
]
AdminOption = Annotated[
    str,
    typer.Option(
        "--admin", envvar="WAYPOST_ADMIN", metavar="HOST:PORT", help="Where the service answers; instead of --config."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one JSON value.")]
IdOption = Annotated[list[str] | None, typer.Option("--id", help="This message; may be repeated.")]
AddressOption = Annotated[str, typer.Option("--address", help="From or to this address.")]
DomainOption = Annotated[str, typer.Option("--domain", help="To this domain.")]
NextHopOption = Annotated[str, typer.Option("--next-hop", help="Waiting for this next hop, as `queue list` names it.")]
AllOption = Annotated[bool, typer.Option("--all", help="The whole queue is meant.")]


@dataclass(frozen=True, slots=True)
class Whom:
    """Options: whom a command asks, and how it says the answer (options.py)."""

    config: ConfigOption = DEFAULT_CONFIG
    admin: AdminOption = ""
    json: JsonOption = False

    @property
    def context(self) -> Context:
        """What they come to. Without any file, a service with the default admin address is asked."""
        return context(self.config, self.admin, json=self.json)

    def show(self, value: T, worded: Callable[[T], Iterable[RenderableType]]) -> None:
        """Print an answer."""
        show(value, worded, as_json_value=self.json)


def configured(path: Path, *, as_json_value: bool) -> Config:
    """The configuration in `path`, or the end of this process with all complaints about it."""
    from waypost.config import Complaints, load  # noqa: PLC0415 - half a second; a service that is asked needs none of it

    _keep_standard_output()
    found = load(path)
    if isinstance(found, Complaints):
        complain(found, as_json_value=as_json_value)
    return found


def _keep_standard_output() -> None:
    """Answers go there; what a part has to say on the way never may. `serve` sets up its own log."""
    import structlog  # noqa: PLC0415 - as above

    if not structlog.is_configured():
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def complain(complaints: Complaints, *, as_json_value: bool) -> NoReturn:
    """Print all that is wrong with a configuration, and exit."""
    if as_json_value:
        typer.echo(as_json(complaints))
    else:
        err().print(Text(str(complaints)))
    raise typer.Exit(1)


def context(config: Path, admin: str, *, json: bool) -> Context:
    """What the shared options say. Without any file, a service with the default admin address is asked."""
    if admin:
        return Context(Asked(server_address(admin, "--admin", as_json_value=json), OnlyService()), json)
    if config == DEFAULT_CONFIG and not config.exists():
        return Context(Asked(DEFAULT_ADMIN, NoConfig()), json)
    read = partial(configured, config, as_json_value=json)
    return Context(_by_its_text(config, read) or _by_all_of_it(read), json)


def _by_its_text(path: Path, read: Callable[[], Config]) -> Asked | Literal[""]:
    """Whom to ask, where `[admin]` tells that plainly: the rest of the file need not be judged for a question."""
    try:
        admin = tomllib.loads(path.read_text("utf-8")).get("admin", {})
        host, _, port = admin.get("address", str(DEFAULT_ADMIN)).rpartition(":")
        address = Endpoint(str(ip_address(host.removeprefix("[").removesuffix("]"))), int(port))
    except (OSError, ValueError, AttributeError):
        return ""
    return Asked(address, read, tls=admin.get("tls") is True) if 0 <= address.port < 65536 else ""


def _by_all_of_it(read: Callable[[], Config]) -> Asked:
    found = read()
    return Asked(found.admin.address, lambda: found, tls=found.admin.tls)


def server_address(text: str, option: str, *, as_json_value: bool) -> Endpoint:
    """HOST:PORT, the host a name or an address; of several addresses the first."""
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        problem = f"{option} {text!r} has no host, or no port from 1 to 65535"
        fail(problem, "write it as 127.0.0.1:2525", as_json_value=as_json_value, code=2)
    try:
        found = socket.getaddrinfo(host.removeprefix("[").removesuffix("]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = f"no address is known for {host!r}: {error.strerror if isinstance(error, OSError) else 'it is no name'}"
        fail(why, "check the name, or give an address", as_json_value=as_json_value)
    address, number = found[0][4][:2]
    return Endpoint(str(address), int(number))


def octets_of(file: str, *, as_json_value: bool) -> bytes:
    """What the file holds, or the end of this process with the reason."""
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", "name another file", as_json_value=as_json_value)


def by_whom() -> str:
    """Who asks, for the history."""
    return f"{getpass.getuser()} (command line)"


def ago(age: str, *, json: bool) -> float:
    """When that was, in seconds since 1970, of "90m" or "3d"; or the end of this process with the remedy."""
    from waypost.config.units import parse_duration  # noqa: PLC0415 - with it comes all that judges a configuration

    try:
        return float(int(SystemClock().now() - parse_duration(age).total_seconds()))
    except ValueError as error:
        fail(str(error), "write it as 90m, 2h or 3d", as_json_value=json, code=2)

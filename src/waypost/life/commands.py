"""The commands that run the service itself: `waypost serve`, and `waypost demo`."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from waypost import __version__, app
from waypost.admin.demo import demonstrate
from waypost.admin.terminal import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    configured,
    fail,
    json_line,
    let_go_of_output,
    out,
)
from waypost.config.parts import login_at
from waypost.life.start import start
from waypost.net.clock import SystemClock
from waypost.net.listener import ListenError
from waypost.queue.storage import StorageError

if TYPE_CHECKING:
    from waypost.config import Config
    from waypost.config.model import Listener
    from waypost.life.serving import Serving


def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    replace: Annotated[  # noqa: FBT002
        bool, typer.Option("--replace", help="In place of the service that runs on this spool, with its sockets.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Say where it listens as one JSON value on a line.")] = False,  # noqa: FBT002
) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    What is under way then may end, for `service.stop_within` at most; a second SIGTERM or Ctrl-C does not wait for it.
    With `--replace` the running service gives its listening sockets and ends: no connection is refused.

    Example: waypost serve --config /etc/waypost/waypost.toml
    """
    found = configured(config, as_json_value=json)

    def ready(serving: Serving) -> None:
        _say(_where(found, serving, as_json_value=json))

    try:
        status = start(found, ready, replace=replace)
    except (StorageError, ListenError, OSError) as error:
        why = error.fault.detail if isinstance(error, StorageError) else str(error)
        fail(f"cannot start: {why}", "nothing was started, and no mail was touched", as_json_value=json)
    raise typer.Exit(status)


def _where(config: Config, serving: Serving, *, as_json_value: bool) -> Iterator[str]:
    """Where mail comes in, where to look, and how to try it, if one of the listeners takes a letter just so."""
    where = [(listener.role, listener.address) for listener in serving.listeners]
    if as_json_value:
        listeners = [{"role": role, "address": address} for role, address in where]
        yield json_line({"hostname": config.service.hostname, "listeners": listeners, "admin": serving.admin})
        return
    yield f"Waypost {__version__} is running as {config.service.hostname}; Ctrl-C ends it."
    for role, address in where:
        yield f"  Send mail to  {address}  ({role})"
    yield f"  Look at       {'https' if config.admin.tls else 'http'}://{serving.admin}/"
    plain = [at for one, (_, at) in zip(config.listeners, where, strict=True) if _takes_a_plain_letter(one, config)]
    for address in plain[:1]:
        yield f"  Try           {_called()} send --server {address} --from me@example.org --to you@example.com"


def _takes_a_plain_letter(listener: Listener, config: Config) -> bool:
    """As `waypost send` brings one: over SMTP, from this machine, in clear, without a login."""
    is_open = listener.tls in {"none", "opportunistic"} and not listener.proxies
    return is_open and listener.role in {"mx", "submission"} and login_at(listener, config) != "required"


def _say(lines: Iterable[str]) -> None:
    """Print them. Where nobody reads any more (`waypost serve | head -1`), mail is served all the same."""
    try:
        for number, line in enumerate(lines):
            typer.secho(line, bold=number == 0)
    except OSError:
        let_go_of_output()


def _called() -> str:
    """How a shell finds this program: by its name, or where that would find none or another, by its path."""
    here = Path(sys.argv[0])
    if here.name == "__main__.py":
        return f"{Path(sys.executable).name} -m waypost"
    found = shutil.which(here.name)
    return here.name if found is not None and Path(found).resolve() == here.resolve() else str(here)


def demo(json: JsonOption = False) -> None:  # noqa: FBT002 - a flag of the CLI
    """Show what becomes of mail when the next server hangs up on EHLO.

    In this process alone, on free ports, with a spool that is deleted afterwards.

    Example: waypost demo
    """
    said: list[str] = []
    console = out()

    def say(line: Text) -> None:
        if json:
            said.append(line.plain)
        else:
            console.print(line)

    with tempfile.TemporaryDirectory(prefix="waypost-demo-") as directory:
        good = asyncio.run(demonstrate(app.running, Path(directory), say, SystemClock()))
    if json:
        typer.echo(json_line({"as_it_should": good, "lines": said}))
    raise typer.Exit(0 if good else 1)

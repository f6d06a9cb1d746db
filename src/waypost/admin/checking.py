"""`waypost check`: whether a configuration is in order, and what it comes to."""

from __future__ import annotations

import typer
from rich.text import Text

from waypost.admin.terminal import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    as_json,
    complain,
    configured,
    out,
)
from waypost.config.complaint import Complaint, Complaints
from waypost.config.parts import keyring
from waypost.net.clock import SystemClock
from waypost.queue.spool import REMEDY, why_ephemeral
from waypost.route.table import describe


def check(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:  # noqa: FBT002 - a flag of the CLI
    """Check a configuration: all complaints, or its routes.

    All that is wrong is said at once, each with its line and a remedy.

    Example: waypost check --config /etc/waypost/waypost.toml
    """
    found = configured(config, as_json_value=json)
    forgets = "" if found.service.allow_ephemeral or found.database else why_ephemeral(found.spool)
    if forgets:
        complain(Complaints(found.where, (Complaint(0, "service.spool", forgets, REMEDY),)), as_json_value=json)
    table = describe(found.route_table())
    ring = keyring(found)
    ring.refresh()
    warnings = ring.warnings(SystemClock().now())
    if json:
        typer.echo(as_json({"where": found.where, "routes": list(table), "warnings": list(warnings)}))
        return
    console = out()
    console.print(Text(f"{found.where} is in order.", style="green"))
    for listener in found.listeners:
        console.print(Text(f"Listening: {listener.role} on {listener.address}, TLS {listener.tls}"))
    for held in ring.certificates:
        console.print(Text(f"Certificate: {held.files} for {', '.join(held.names)}, until {held.last_day}"))
    for line in table:
        console.print(Text(f"Route: {line}"))
    if not table:
        console.print(Text("No [[route]]: every recipient will be refused.", style="yellow"))
    for warning in warnings:
        console.print(Text(f"{warning}.", style="yellow"))

"""What came of another mail server's configuration, as one of ours that is in order."""

from __future__ import annotations

from pathlib import Path

from waypost.admin.translation import Translation
from waypost.config import Config, parse
from waypost.route.route import Route
from waypost.route.target import target_text
from waypost.smtp.path import parse_mailbox


def config(directory: Path, found: Translation) -> Config:
    """It, in order, with its files where it looks for them."""
    for name, text in found.files.items():
        (directory / name).write_text(text)
    parsed = parse(found.text, where="waypost.toml", base=directory)
    assert isinstance(parsed, Config), f"{parsed}\n{found.text}"
    return parsed


def route(found: Config, address: str) -> Route:
    """The route of a recipient."""
    one = found.route_table().route(parse_mailbox(address))
    assert isinstance(one, Route), one
    return one


def way(found: Config, address: str) -> str:
    """Where a recipient would go."""
    return target_text(route(found, address).transport)

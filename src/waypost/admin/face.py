"""The admin's HTTP face as a configuration wants it: who may come, over TLS or not, and what the dashboard shows."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from waypost.admin.answers import Expiring
from waypost.admin.board import Board, ConfigText, hide_secrets
from waypost.admin.flow import FlowKeeper
from waypost.admin.guard import Guard, Open, Users
from waypost.admin.http import Plain
from waypost.config import Config
from waypost.net.certificates import Keyring
from waypost.net.clock import Clock


def guard_of(config: Config, clock: Clock) -> Guard:
    """Who may come. Over a Unix socket only processes of our own do, and its directory says so."""
    names = frozenset(name.lower() for name in (config.service.hostname, *config.admin.names))
    is_local = config.admin.address.host.startswith("/")
    access = Users(Path(config.admin.users)) if config.admin.users and not is_local else Open()
    return Guard(access, clock, names, secure=config.admin.tls and not is_local)


def tls_of(config: Config, keyring: Keyring) -> ssl.SSLContext | Plain:
    """A context that takes the keyring's certificate at each handshake: they are read again when their files change.

    Raises: OSError, where the first one cannot be read.
    """
    if not config.admin.tls or config.admin.address.host.startswith("/"):
        return Plain()
    outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    outer.minimum_version = ssl.TLSVersion.TLSv1_2

    def choose(tls: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        found = keyring.context()
        if isinstance(found, ssl.SSLContext):
            tls.context = found

    outer.sni_callback = choose
    first = config.certificates[0]
    outer.load_cert_chain(first.certificate, first.key)
    return outer


def board_of(
    config: Config,
    keyring: Keyring,
    flow: FlowKeeper,
    clock: Clock,
    authorisations: Callable[[], Sequence[Expiring]] = tuple,
) -> Board:
    """What the dashboard shows beside the desk's answers."""

    def expiring() -> Sequence[Expiring]:
        return [*_certificates(keyring, clock), *authorisations()]

    return Board(flow, expiring, _config_text(config), clock)


def _certificates(keyring: Keyring, clock: Clock) -> Sequence[Expiring]:
    now = clock.now()
    return [
        Expiring("certificate", str(one.files), ", ".join(one.names), one.ends, int((one.ends - now) // 86400))
        for one in keyring.certificates
    ]


def _config_text(config: Config) -> ConfigText:
    """The file as it is now, which is as it was just read."""
    try:
        return ConfigText(config.where, hide_secrets(Path(config.where).read_text("utf-8")))
    except OSError:
        return ConfigText(config.where, "")

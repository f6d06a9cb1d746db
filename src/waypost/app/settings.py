"""From settings to what the parts take: what config/parts.py cannot build, or what stops the start."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from waypost.auth.keeper import Keeper
from waypost.auth.tokens import TokenStoreError
from waypost.config import Config
from waypost.config.dkim import Signings, build_signing
from waypost.config.notices import recipients_of
from waypost.config.parts import hooks, keeper
from waypost.deliver.connection import TimeOuts
from waypost.hooks.calls import Hooks
from waypost.hooks.load import HookError
from waypost.hooks.runtime import Runtime
from waypost.mail.dkim import KeyFileError
from waypost.net.clock import Clock
from waypost.report.common_notices import Class
from waypost.report.journal import Journal
from waypost.report.journald import ToJournal
from waypost.report.log import Log
from waypost.report.notices import BounceKind, Terms
from waypost.report.pen import Aside, AtOnce


def hooks_of(config: Config, clock: Clock, journal: Journal, runtime: Callable[[str], Runtime]) -> Hooks:
    """The hooks of all modules named. Raises: OSError, where one cannot be loaded."""
    try:
        found = hooks(config, clock, journal, runtime)
    except HookError as error:
        raise OSError(f"a hook cannot be loaded: {error}") from error
    journal.watch_hooks(found.names)
    return found


def notice_terms(config: Config) -> Terms:
    """Who is told of what, how often, and by which route."""
    section = config.notices
    return Terms(
        config.service.hostname,
        config.service.postmaster,
        {Class(of): mailboxes for of, mailboxes in recipients_of(section).items()},
        section.every,
        section.route,
        frozenset(BounceKind(kind) for kind in section.bounce_kinds),
    )


def signings_of(config: Config) -> Signings:
    """What signs mail of our own. Raises: OSError, where a key cannot be had."""
    try:
        return build_signing(config.dkim, config.base)
    except (KeyFileError, ImportError) as error:
        raise OSError(f"nothing can be signed by [dkim]: {error}") from error


def keeper_of(config: Config, clock: Clock) -> Keeper:
    """Who keeps OAuth tokens. Raises: OSError, where their file cannot be used."""
    try:
        return keeper(config, clock)
    except TokenStoreError as error:
        raise OSError(f"the tokens of [[oauth]] cannot be kept: {error}") from error


def time_outs_of(config: Config) -> TimeOuts:
    """How long to wait for whom, as a client."""
    chosen = config.timeouts
    return TimeOuts(
        connect=chosen.connect,
        greeting=chosen.greeting,
        hello=chosen.ehlo,
        starttls=chosen.starttls,
        handshake=chosen.tls,
        auth=chosen.auth,
        mail=chosen.mail,
        rcpt=chosen.rcpt,
        data=chosen.data,
        block=chosen.block,
        dot=chosen.dot,
        rset=chosen.rset,
        quit=chosen.quit,
    )


def log_of(config: Config, clock: Clock, fields: Mapping[str, object]) -> Log:
    """The log of this process, on standard error; `fields`: what every line says besides."""
    stream, form = sys.stderr, config.log.format
    pretty = form == "pretty" or (form == "auto" and stream.isatty())
    pen = Aside(ToJournal() if form == "journal" else AtOnce(stream.buffer))
    log = Log(
        pen,
        level=config.log.level,
        pretty=pretty,
        clock=clock,
        colors=stream.isatty(),
        fields=fields,
        journald=form == "journal",
    )
    log.become_default()
    return log

"""The service, from its start to its end."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from waypost.admin.answers import ServiceFacts
from waypost.admin.operations import Operations
from waypost.app.administration import admin_server_of, operations_of, probe_of
from waypost.app.base import Base, base_of
from waypost.app.parts import REAL, Parts
from waypost.app.reception import endpoints_of, listener_facts, pickup_of, web_doors_of
from waypost.app.renewal import Renewal
from waypost.app.reports import take_up, write_tally
from waypost.app.upkeep import reroute, tell_certificates
from waypost.app.works import Works, begin_works, leave
from waypost.config import Config
from waypost.net.stream import Endpoint
from waypost.queue.storage import StorageError
from waypost.receive.http import HttpDoor
from waypost.report.log import Log


@dataclass(frozen=True, slots=True)
class Running:
    """A service that takes mail now."""

    receive_endpoints: tuple[Endpoint, ...]
    admin_endpoint: Endpoint
    operations: Operations
    log: Log
    #: While it stops: end what it waits for now.
    hurry: Callable[[], Awaitable[None]]
    #: Read the configuration and the certificates' files anew, in a task of its own; then tell what came of it.
    reload: Callable[[Callable[[str], None]], None]
    #: Take no more clients, and let those there are end by themselves: another process is there for the others.
    let_end: Callable[[timedelta], Awaitable[None]]
    #: What clients' connections come in by.
    sockets: Callable[[], Sequence[socket.socket]]


@asynccontextmanager
async def running(config: Config, *, parts: Parts = REAL) -> AsyncIterator[Running]:
    """The service, while the block lasts. Raises: StorageError, ListenError, OSError: it cannot start, and why."""
    base = base_of(config, parts)
    async with AsyncExitStack() as stack:
        await _open(base, stack)
        works = await begin_works(base, parts, stack)
        web_doors = await _open_doors(base, parts, works, stack)
        renewal = Renewal(base, parts, works, web_doors)
        stack.push_async_callback(renewal.end)
        operations = operations_of(
            base, listener_facts(base, works.receiver, web_doors), works, probe_of(base, parts, works)
        )
        operations.renew, renewal.operations = renewal.reload, (operations,)
        await renewal.note("start")
        admin = admin_server_of(base, operations, works.watch)
        await stack.enter_async_context(admin)
        _say_what_runs(base.log, operations.facts)
        yield Running(
            endpoints_of(base, works.receiver, web_doors),
            admin.endpoint,
            operations,
            base.log,
            works.hurry,
            renewal.begin,
            works.receiver.let_end,
            lambda: works.receiver.sockets,
        )


async def _open(base: Base, stack: AsyncExitStack) -> None:
    """Have the spool, and take up what was left in it."""
    tell_certificates(base.log, base.keyring.refresh())
    await base.storage.open(owner=f"{socket.gethostname()}:{os.getpid()}")
    stack.push_async_callback(base.storage.close)
    stack.push_async_callback(base.resolver.close)
    stack.callback(base.logins.close)
    stack.push_async_callback(base.journal.traces.close)
    stack.callback(base.hooks.close)
    stack.push_async_callback(leave, base)
    await take_up(base)
    stack.push_async_callback(base.policies.close)
    stack.push_async_callback(write_tally, base)
    try:
        await reroute(base.storage, base.table, base.log)
    except StorageError as error:  # mail that waits for an old route is worth less than all that could come
        base.log.logger.warning("what waits could not be rerouted", detail=str(error))


async def _open_doors(base: Base, parts: Parts, works: Works, stack: AsyncExitStack) -> Sequence[HttpDoor]:
    """Let mail in; the doors of it that are HTTP."""
    await works.receiver.start()
    doors = web_doors_of(base, works.receiver, parts.sockets())
    web_doors = [await stack.enter_async_context(door) for door in doors]
    if base.config.pickup.directory and parts.picks_up:
        works.watch.keep("pickup", pickup_of(base, works.receiver).run)
    return web_doors


def _say_what_runs(log: Log, facts: ServiceFacts) -> None:
    log.logger.info(
        "serving", durability=facts.durability, spool=facts.spool, version=facts.version, compiled=facts.compiled
    )

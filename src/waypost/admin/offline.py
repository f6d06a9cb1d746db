"""The desk where no service runs: the same Operations, over the spool itself.

A directory is taken for this process alone, so that no service can begin in between. A database is visited: the nodes
on it go on, and hear what is changed. Nothing is delivered here.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from waypost import __version__, is_compiled
from waypost.admin.answers import FailureKind, ListenerFacts, OperationError, ServiceFacts
from waypost.admin.desk import Desk
from waypost.admin.operations import InForce, Operations
from waypost.admin.together import Together, Worker
from waypost.config import Complaints, Config, parse
from waypost.config.parts import (
    expander,
    hooks,
    host_finder,
    https,
    maps,
    resolver_settings,
    rewritings,
    visited_spool,
)
from waypost.config.strangers import Untold, build_gate
from waypost.hooks.calls import NoHookLog
from waypost.hooks.load import HookError
from waypost.net.clock import Clock, Instant, SystemClock
from waypost.net.dialer import AsyncioDialer
from waypost.net.stub_resolver import DnspythonResolver
from waypost.policy.admission import Admission
from waypost.policy.gate import NO_GATE, OpenGate, WatchedGate
from waypost.policy.hooked import UNHOOKED, Hooked
from waypost.queue.memory import MemoryStorage
from waypost.queue.shards import shard, shards
from waypost.queue.storage import Storage, StorageError
from waypost.route.sts_keeper import NoShelf, StsKeeper


def _defaults() -> Config:
    """What a mail service would do that nobody has configured: everything goes by MX records."""
    text = """\
[service]
hostname = "localhost.localdomain"
spool = "spool"
postmaster = "postmaster@localhost.localdomain"
[[listener]]
address = "127.0.0.1:25"
[[route]]
domains = ["*"]
to = "mx:"
"""
    found = parse(text, where="the defaults", base=Path("/"))
    if isinstance(found, Complaints):
        raise RuntimeError(str(found))  # noqa: TRY004 - not a type is wrong but the text, and that is ours
    return found


DEFAULTS: Final = _defaults()


@asynccontextmanager
async def offline(config: Config, *, spool: bool) -> AsyncIterator[Desk]:
    """Operations over the spool itself, a directory taken for this process alone; or over none, where none is needed.

    Raises: OperationError, where there is no such spool, or somebody else has it.
    """
    async with AsyncExitStack() as stack:
        if not spool:
            hooked = _hooked(config, SystemClock())
            yield await stack.enter_async_context(_offline(config, MemoryStorage(), hooked))
            return
        _see_that_it_exists(config)
        workers = []
        for index in shards(config.spool):
            part = replace(config, spool=shard(config.spool, index))
            desk = await stack.enter_async_context(_offline(part, visited_spool(part), UNHOOKED))
            workers.append(Worker(index, desk))
        yield workers[0].desk if len(workers) == 1 else Together(lambda: workers)


def _gate(config: Config, resolver: DnspythonResolver, clock: Clock, storage: Storage) -> WatchedGate | OpenGate:
    """What strangers must pass, as far as it is known without a service: what it has counted died with it."""
    strangers = config.strangers.without_memory()
    if not strangers.are_watched:
        return NO_GATE
    return build_gate(strangers, config.places, resolver, clock, storage, Untold())


@asynccontextmanager
async def _offline(config: Config, storage: Storage, hooked: Hooked) -> AsyncIterator[Desk]:
    clock = SystemClock()
    resolver = DnspythonResolver(resolver_settings(config), clock)
    try:
        table, known = config.route_table(), maps(config, clock, AsyncioDialer())
        await storage.open(owner=f"command line {os.getpid()}")
        yield Operations(
            storage=storage,
            in_force=InForce(
                config,
                table,
                Admission(table, expander(config, clock, known)),
                host_finder(config, resolver, random.Random()),  # noqa: S311 - it shuffles equal hosts
                _gate(config, resolver, clock, storage),
                rewritings(config, known),
            ),
            resolver=resolver,
            policies=StsKeeper(resolver, https(resolver), NoShelf(), clock),
            clock=clock,
            facts=_facts(config, storage, clock.now()),
            hooked=hooked,
            not_ready=_not_running,
        )
    except StorageError as error:
        raise OperationError(
            FailureKind.UNAVAILABLE,
            f"no service answers at {config.admin.address}, and the spool cannot be opened: {error.fault.detail}",
            "if the service runs with another [admin] address, name that with --admin",
        ) from error
    finally:
        await resolver.close()
        await storage.close()


def _hooked(config: Config, clock: Clock) -> Hooked:
    """The hooks, for questions about mail that is not there yet; whoever looks at the queue need not run their code."""
    try:
        return Hooked(hooks(config, clock, NoHookLog()))
    except HookError as error:
        problem, _, remedy = str(error).partition("; ")
        raise OperationError(FailureKind.UNAVAILABLE, problem, remedy or "mend the hook") from error


def _see_that_it_exists(config: Config) -> None:
    if config.database or config.spool.is_dir():
        return
    raise OperationError(
        FailureKind.UNAVAILABLE,
        f"no service is running at {config.admin.address}, and there is no spool at {config.spool}",
        f"start the service: waypost serve --config {config.where}",
    )


def _facts(config: Config, storage: Storage, now: Instant) -> ServiceFacts:
    listeners = tuple(ListenerFacts(listener.role, str(listener.address)) for listener in config.listeners)
    return ServiceFacts(
        version=__version__,
        hostname=config.service.hostname,
        spool=config.queue_at,
        durability=storage.durability.value,
        listeners=listeners,
        started_at=now,
        is_running=False,
        compiled=is_compiled(),
    )


async def _not_running() -> tuple[str, ...]:
    return ("the service is not running",)

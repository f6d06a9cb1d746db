"""Building what looks on: operations, the admin server, readiness and warnings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from waypost import __version__, is_compiled
from waypost.admin.answers import Expiring, ListenerFacts, ServiceFacts
from waypost.admin.face import board_of, guard_of, tls_of
from waypost.admin.flow import FlowKeeper, Totals
from waypost.admin.http import AdminServer
from waypost.admin.operations import InForce, Operations, Told
from waypost.app.base import Base
from waypost.app.parts import Parts
from waypost.app.upkeep import hear
from waypost.app.watch import Watch
from waypost.app.works import Works
from waypost.config.parts import rewritings
from waypost.deliver.calls import Callers
from waypost.deliver.quotas import Quotas
from waypost.policy.gate import WatchedGate
from waypost.policy.hooked import Hooked
from waypost.queue import salvage
from waypost.queue.storage import StorageError
from waypost.receive.probe import NoProbe, Probe


def operations_of(base: Base, listeners: tuple[ListenerFacts, ...], works: Works, probe: Probe | NoProbe) -> Operations:
    """What administrators may ask and do."""
    dispatcher = works.dispatcher
    return Operations(
        storage=base.storage,
        in_force=in_force_of(base),
        resolver=base.resolver,
        policies=base.policies,
        clock=base.clock,
        facts=_facts(base, listeners),
        hooked=Hooked(base.hooks),
        not_ready=partial(_not_ready, base, works.watch, probe),
        warnings=lambda: _warnings(base),
        told=Told(
            changed=dispatcher.wake,
            retried=dispatcher.try_again,
            called=Callers(base.storage, base.clock).called,
            refrozen=dispatcher.freeze,
            rewatched=partial(hear, base),
        ),
        used=lambda onward: Quotas(base.storage, base.clock).used(onward.quotas, onward.credential),
        delivering=dispatcher.destinations,
        expiring=partial(_authorisations, base),
    )


def in_force_of(base: Base) -> InForce:
    """What the configuration comes to, for whoever asks about it."""
    rewriting = rewritings(base.config, base.maps)
    return InForce(base.config, base.table, base.admission, base.finder, base.gate, rewriting)


def admin_server_of(base: Base, operations: Operations, watch: Watch) -> AdminServer:
    """Who answers them over HTTP."""
    config = base.config
    flow = FlowKeeper(_totals(base), base.storage.counts, base.clock)
    watch.keep("flow keeper", flow.run)
    return AdminServer(
        operations,
        config.admin.address,
        metrics=base.metrics.collect,
        not_ready=operations.not_ready,
        guard=guard_of(config, base.clock),
        board=board_of(config, base.keyring, flow, base.clock, partial(_authorisations, base)),
        tls=tls_of(config, base.keyring),
    )


def _totals(base: Base) -> Totals:
    async def totals() -> Mapping[str, float]:
        return base.metrics.totals()

    return totals


def _authorisations(base: Base) -> Sequence[Expiring]:
    now, found = base.clock.now(), []
    for state in base.keeper.states():
        days = state.days(now)
        ends = now + days * 86400 if days < 36500 else 0.0
        why = state.why or ("" if state.is_alive else "somebody has to log in")
        found.append(Expiring("authorisation", state.name, "OAuth 2.0", ends, int(min(days, 36500)), why))
    return found


def probe_of(base: Base, parts: Parts, works: Works) -> Probe | NoProbe:
    """Who visits our own doors to see whether mail is taken."""
    if not parts.probes:
        return NoProbe()
    return Probe(
        lambda: works.receiver.open_doors, base.storage, parts.dialer(), base.clock, base.config.service.hostname
    )


async def _not_ready(base: Base, watched: Watch, probe: Probe | NoProbe) -> Sequence[str]:
    reasons = [f"the {name} died and is being begun again" for name in watched.down]
    if base.config.service.mode == "flush":
        return [*reasons, 'no mail is taken: service.mode is "flush"']
    try:
        await base.storage.counts()
    except StorageError as error:
        return [*reasons, f"the spool does not answer: {error}"]
    return [*reasons, *await probe.reasons()]


async def _warnings(base: Base) -> Sequence[str]:
    """What an administrator should see to, though the service does its work."""
    damage = await asyncio.to_thread(salvage.reports, base.config.spool)
    guessing = [str(blocked) for blocked in base.logins.attempts.blocked()]
    room = [base.room.why] if base.room.why else []
    ended = [f"OAuth {one.name}: {one.why}" for one in base.keeper.states() if not one.is_alive or one.why]
    lists = base.gate.lists.ignored if isinstance(base.gate, WatchedGate) else ()
    return [*damage, *guessing, *ended, *room, *lists, *base.keyring.warnings(base.clock.now())]


def _facts(base: Base, listeners: tuple[ListenerFacts, ...]) -> ServiceFacts:
    config, storage = base.config, base.storage
    return ServiceFacts(
        __version__,
        config.service.hostname,
        config.queue_at,
        storage.durability.value,
        listeners,
        started_at=base.clock.now(),
        compiled=is_compiled(),
    )

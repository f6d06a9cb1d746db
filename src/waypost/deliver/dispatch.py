"""The dispatcher: takes leases, as many as fit, and sees that every destination gets its turn.

    received mail ── take ──┐
    the queue ──── claim ───┴→ Destination.waiting → a worker: attempt (runner.py) → settle (settler.py)

What it promises. A destination that stalls holds no more than its own concurrency, and where many want room at once
they share it (crowd.py). Memory is bounded: leases wait here up to a number and a size, the rest stays on disk. It
sleeps until something falls due or somebody wakes it. A bug in an attempt costs that attempt. While the storage fails,
nothing new is begun.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final, NamedTuple, Protocol, TypeAlias, assert_never

import msgspec

from waypost.deliver.crowd import RELIEF, Capacity, Crowd, Memory
from waypost.deliver.destination import LONGEST_REST, Destination, Held, May, Standing
from waypost.deliver.journal import Journal, tell
from waypost.deliver.pool import Pool
from waypost.deliver.relays import Attempting
from waypost.deliver.runner import Runner, Tried, Untried
from waypost.deliver.settler import Settler
from waypost.deliver.smtp import (
    AuthorisationEnded,
    CredentialsRefused,
    Elsewhere,
    Exhausted,
    Reach,
    Reached,
    Unreachable,
)
from waypost.hooks.calls import NO_HOOKS, Hooks
from waypost.hooks.values import Ended, Point
from waypost.mail.attempt import Attempt
from waypost.mail.envelope import MessageId, NextHop
from waypost.mail.explain import describe_cause
from waypost.mail.outcome import Cause, ConnectionLost, DnsFailed, LocalTrouble, Misbehaved, NotConnected
from waypost.net.clock import Clock, Instant
from waypost.queue.exchange import NO_OTHERS, Exchange, Telling
from waypost.queue.frost import ROUTE, Frozen
from waypost.queue.schedule import RetryPolicy
from waypost.queue.shelf import Absent
from waypost.queue.storage import CLAIM, Lease, Never, Selection, Settled, Settlement, Storage, StorageError, Wait
from waypost.route.route import NoRoute, OnCall, Route
from waypost.route.state import DestinationState


class Routes(Protocol):
    """Where a next hop's route is found (waypost.route.table.RouteTable)."""

    def by_next_hop(self, next_hop: NextHop) -> Route | NoRoute: ...


#: The longest the queue goes unasked: another process may have put something into it.
LONGEST_SLEEP: Final = timedelta(seconds=30)
#: After the storage has failed.
PAUSE: Final = timedelta(seconds=5)
#: What an attempt that is cut off by `stop` has to be written down in.
LAST_WORDS: Final = timedelta(seconds=5)
#: How long a destination that has nothing to do is remembered.
MEMORY: Final = timedelta(minutes=1)
#: Next hops asked for beyond those known here, so that full ones never hide others.
HOPS: Final = 200
#: The space on the shelf of next hops whose mail is being sent to a caller.
ANSWERING: Final = "calls answered"
#: A route whose credentials are refused is not tried for so long: too many failures lock accounts.
CREDENTIALS_REST: Final = timedelta(minutes=15)


#: Causes of a rest that are told as they are.
_TOLD_WHOLE: Final[tuple[type[NotConnected | ConnectionLost | Misbehaved | DnsFailed], ...]] = (
    NotConnected,
    ConnectionLost,
    Misbehaved,
    DnsFailed,
)
#: Seconds by which a rest has to be longer than one that is known, to be another: clocks differ, if only by rounding.
SAME_REST: Final = 1.0
#: What rests are told as.
REST: Final = "rest"


class _Rest(NamedTuple):
    """A destination that rests, as the processes of a queue tell it: until when (wall clock), and why; 0: no longer."""

    next_hop: NextHop
    until: Instant
    why: str
    kind: str = ""
    cause: object = None

    def as_cause(self) -> Cause:
        """Why, as who found it has it; of causes that are seldom told, the words."""
        for kind in _TOLD_WHOLE:
            if kind.__name__ == self.kind:
                with suppress(msgspec.ValidationError):  # another release's
                    return msgspec.convert(self.cause, kind)
        return LocalTrouble(f"another process of this queue found: {self.why}")


#: What a worker does next.
_Turn: TypeAlias = tuple[Destination, Held, May]


class _NoTurn:
    """Nothing may start."""


_NO_TURN: Final = _NoTurn()


class Dispatcher:
    """Holds leases and workers. `run` it in a task; `stop` ends it."""

    def __init__(
        self,
        storage: Storage,
        routes: Routes,
        runner: Runner,
        settler: Settler,
        pool: Pool,
        *,
        policy: RetryPolicy,
        clock: Clock,
        journal: Journal,
        capacity: Capacity,
        hooks: Hooks = NO_HOOKS,
        destination: Callable[[NextHop, Route | NoRoute, RetryPolicy, Instant], Destination] = Destination,
    ) -> None:
        self._storage = storage
        self._routes = routes
        self.runner = runner
        self._settler = settler
        self._pool = pool
        self._policy = policy
        self._clock = clock
        self._journal = journal
        self._capacity = capacity
        self._hooks = hooks
        self._tells_hooks = hooks.at(Point.AFTER_OUTCOME)
        self._make = destination
        self._destinations: dict[NextHop, Destination] = {}
        self._frozen: Mapping[str, Frozen] = {}
        self._others: Telling = NO_OTHERS
        self._rests: dict[NextHop, _Rest] = {}  # that others have told of destinations not known here
        self._turns: deque[Destination] = deque()
        self._held = Memory(capacity)
        self._surplus: list[Lease] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[_Turn]] = []  # of workers, each for its next turn
        self._wake = asyncio.Event()
        self._left_on_disk = False
        self._asks_at: Instant = 0.0
        self._stopping = False
        self._crowd = Crowd(capacity, self._destinations.values())
        self._passed_over: set[Destination] = set()
        self._relief_is_due = False

    def destinations(self) -> Sequence[DestinationState]:
        """What each next hop is doing that has something to do, or lately had, or rests."""
        now, at = self._clock.monotonic(), self._clock.now()
        return [destination.state(now, at) for destination in self._destinations.values()]

    # ---- what receiving calls
    def wants(self) -> bool:
        """Whether a message just received may be handed over, instead of waiting on disk for its turn."""
        if self._held.has_room and not self._stopping and not self._settler.is_failing:
            return True
        self._left_on_disk = True
        self._relieve_soon()
        return False

    def take(self, leases: Iterable[Lease]) -> None:
        """Leases handed over; those for which there is no room are given back to the queue."""
        for lease in leases:
            destination = self._destination(lease.next_hop)
            if (
                self._stopping
                or destination.is_held
                or (destination.has_window and destination.is_shut(self._clock.now()))
                or not self._held.may_wait(destination, lease, self._clock.monotonic())
            ):
                destination.has_more = True
                self._surplus.append(lease)
                self._wake.set()
            else:
                self._admit(destination, lease)
        self._pump()

    def wake(self) -> None:
        """Something may be due now: an operator's retry, a report just queued."""
        self._wake.set()

    def try_again(self, next_hops: Collection[NextHop] = ()) -> None:
        """Somebody wants mail tried now: none of these destinations (all, if none is named) rests any longer.

        Each is probed by one attempt. The windows of those that are named open, until nothing is due for them.
        """
        for name in next_hops:
            self._destination(name).is_opened = True
        for name in [name for name in self._rests if not next_hops or name in next_hops]:
            del self._rests[name]
            self._tell_rest(_Rest(name, 0.0, ""))
        for name, destination in self._destinations.items():
            if not next_hops or name in next_hops:
                if destination.rests_until > self._clock.monotonic():
                    self._tell_rest(_Rest(name, 0.0, ""))
                destination.end_rest(self._clock.monotonic())
                destination.let_go()
        self._wake.set()

    def share(self, exchange: Exchange) -> None:
        """Tell the other processes which destinations rest, and let rest what they tell of."""
        self._others = exchange
        exchange.listen(REST, _Rest, self._heard_rest)

    def _tell_rest(self, rest: _Rest) -> None:
        ends = rest.until or self._clock.now() + LONGEST_REST.total_seconds()
        self._others.tell(REST, rest, key=rest.next_hop, until=ends)

    def _heard_rest(self, rest: _Rest) -> None:
        destination = self._destinations.get(rest.next_hop)
        if destination is not None:
            self._let_rest(destination, rest)
        elif rest.until > self._clock.now():
            self._rests[rest.next_hop] = rest
        else:
            self._rests.pop(rest.next_hop, None)
        if not rest.until:
            self._wake.set()

    def _let_rest(self, destination: Destination, rest: _Rest) -> None:
        """As told by another, whose clock need not agree with ours: one that is over by ours ends none of our own."""
        now, seconds = self._clock.monotonic(), min(rest.until - self._clock.now(), LONGEST_REST.total_seconds())
        if not rest.until:
            destination.end_rest(now)
        elif seconds > 0 and now + seconds > destination.rests_until + SAME_REST:
            destination.rest(rest.as_cause(), timedelta(seconds=seconds), now)

    def freeze(self, frozen: Mapping[str, Frozen]) -> None:
        """What is frozen from now on; all else is not. What is under way there ends as it would have."""
        if frozen == self._frozen:
            return
        self._frozen = frozen
        for destination in self._destinations.values():
            self._freeze(destination)
            if destination.is_held:
                self._give_back(destination, destination.waiting.take_if(lambda _: True))
        self._wake.set()

    def _freeze(self, destination: Destination) -> None:
        route = destination.route
        place = self._frozen.get(destination.next_hop)
        if place is None and isinstance(route, Route):
            place = self._frozen.get(ROUTE + route.name)
        destination.freeze(str(place) if place else "")

    def authorised(self, name: str) -> None:
        """Somebody has logged in: what was held for the want of this OAuth authorisation may go."""
        for destination in self._destinations.values():
            if destination.authorisation == name:
                destination.let_go()
        self._wake.set()

    def adopt(self, routes: Routes, policy: RetryPolicy) -> None:
        """Other routes are in force: for what waits here at once, for what is under way with its next attempt."""
        self._routes, self._policy = routes, policy
        for next_hop, destination in self._destinations.items():
            destination.adopt(routes.by_next_hop(next_hop), policy)
        self._wake.set()

    # ---- the loop
    async def run(self) -> None:
        """Ask the queue for what is due, until stopped."""
        while not self._stopping:
            self._wake.clear()
            try:
                pause = await self._round()
            except StorageError as error:
                tell(self._journal.storage_failed, "asking what is due", str(error))
                pause = PAUSE
            pause = min(pause, LONGEST_SLEEP)
            self._asks_at = self._clock.now() + pause.total_seconds()
            await self._sleep(pause)

    async def stop(self, within: timedelta) -> None:
        """Begin nothing new; give back what waits, and what has sent no body yet; let the rest end, for so long.

        A body on its way is worth waiting for: cut off, it is sent a second time. What merely waits for a greeting or
        a reply before it costs nothing to give back, untried and due as before.
        """
        self._stopping = True
        self._wake.set()
        for destination in self._destinations.values():
            self._give_back(destination, destination.waiting.take_if(lambda _: True))
        self.runner.cut_off(bodies=False)
        await self._finish(within)
        self.runner.cut_off(bodies=True)
        await self._finish(LAST_WORDS)
        for worker in self._workers:
            worker.cancel()
        await self._finish(LAST_WORDS)
        await self._pool.close()
        try:
            await self._release_surplus()
        except StorageError as error:
            tell(self._journal.storage_failed, "giving leases back", str(error))

    async def _finish(self, within: timedelta) -> None:
        """Let the workers end that are at work, for so long; those that are idle end now."""
        while self._idle:
            self._idle.pop().cancel()
        if self._workers:
            await asyncio.wait(self._workers, timeout=within.total_seconds())

    async def _round(self) -> timedelta:
        """Claim what is due and fits; how long nothing more can be."""
        await self._release_surplus()
        await self._renew()
        if self._settler.is_failing:
            return PAUSE
        now = self._clock.now()
        until_one_may = self._resume()
        self._left_on_disk = False
        ready = await self._storage.ready(now, limit=len(self._destinations) + HOPS)
        for hop in ready:
            destination = self._destination(hop.next_hop)
            if not (destination.has_window and await self._is_shut(destination, hop.since, now)):
                await self._claim(destination, now)
        self._shut({hop.next_hop for hop in ready}, now)
        self._forget_idle()
        due = await self._storage.next_due(now)
        return until_one_may if isinstance(due, Never) else min(until_one_may, _until(due, self._clock.now()))

    def _resume(self) -> timedelta:
        """Let those go on whose mail stayed for a time that is over; how long until the next may."""
        now = self._clock.monotonic()
        for destination in self._destinations.values():
            destination.resume(now)
        times = [one.stays_until - now for one in self._destinations.values() if one.stays_until]
        return timedelta(seconds=min([LONGEST_SLEEP.total_seconds(), *times]))

    async def _is_shut(self, destination: Destination, since: Instant, now: Instant) -> bool:
        """Whether its window is, and what waits since then does not open it."""
        if not destination.is_shut(now):
            return False
        waiting = await self._count(destination) if destination.counts_to else 0
        destination.is_opened = destination.wants_open(since, waiting, now)
        return not destination.is_opened

    async def _count(self, destination: Destination) -> int:
        """How many messages wait for it; no more are counted than open it."""
        entries = await self._storage.entries(
            Selection(next_hop=destination.next_hop),
            after=(MessageId(""), -1),
            limit=min(destination.counts_to * 10, 10_000),
            now=self._clock.now(),
        )
        return len({entry.id for entry in entries})

    def _shut(self, ready: Collection[NextHop], now: Instant) -> None:
        """What was opened is shut again once nothing is due; what waits here for a window that has shut goes back."""
        for destination in [one for one in self._destinations.values() if one.has_window or one.is_opened]:
            if not (destination.next_hop in ready or destination.waiting or destination.running):
                destination.is_opened = False
            if destination.waiting and destination.is_shut(now):
                self._give_back(destination, destination.waiting.take_if(lambda _: True))

    async def _claim(self, destination: Destination, now: float) -> None:
        if destination.is_held or await self._is_being_called_for(destination, now):
            return
        room = self._held.room(destination, self._clock.monotonic())
        if room <= 0:
            destination.has_more = True
            self._left_on_disk = self._left_on_disk or not self._held.has_room
            return
        until = now + CLAIM.total_seconds()
        leases = await self._storage.claim(destination.next_hop, now=now, until=until, messages=room)
        destination.has_more = len(leases) >= room
        destination.low_water = (len(destination.waiting) + len(leases)) // 2
        for lease in leases:
            self._admit(destination, lease)
        self._pump()

    async def _is_being_called_for(self, destination: Destination, now: float) -> bool:
        """Whether its mail is just being sent over a caller's connection, here or in another process (ATRN)."""
        route = destination.route
        if not (isinstance(route, Route) and isinstance(route.transport, OnCall)):
            return False
        return not isinstance(await self._storage.kept(ANSWERING, destination.next_hop, now=now), Absent)

    async def _sleep(self, pause: timedelta) -> None:
        # Not `wait_for`: in Python 3.11 it loses a cancellation that comes while the event is just set, for ever.
        with suppress(TimeoutError):
            async with asyncio.timeout(pause.total_seconds()):
                await self._wake.wait()

    async def _release_surplus(self) -> None:
        while self._surplus:
            leases, self._surplus = self._surplus, []
            try:
                await self._storage.release(leases)
            except StorageError:
                self._surplus.extend(leases)
                raise

    async def _renew(self) -> None:
        """Prolong the leases whose time is half over: an attempt may last, and so may the wait for one."""
        until = self._clock.now() + CLAIM.total_seconds()
        old = {_key(held.lease): held for held in self._held if held.lease.until < until - CLAIM.total_seconds() / 2}
        if not old:
            return
        for lease in await self._storage.renew([held.lease for held in old.values()], until=until):
            old.pop(_key(lease)).lease = lease
        lost = set(old.values())
        for destination in {self._destination(held.lease.next_hop) for held in lost}:
            self._held.forget(destination.waiting.take_if(lost.__contains__))

    # ---- what it holds
    def _admit(self, destination: Destination, lease: Lease) -> None:
        held = Held(lease)
        self._held.add(held)
        destination.waiting.append(held)
        self._give_turn(destination)

    def _give_back(self, destination: Destination, gone: Sequence[Held]) -> None:
        """Leases that wait go back to the queue, untried."""
        self._held.forget(gone)
        self._surplus.extend(held.lease for held in gone)
        destination.has_more = destination.has_more or bool(gone)

    def _destination(self, next_hop: NextHop) -> Destination:
        found = self._destinations.get(next_hop)
        if found is None:
            route, since = self._routes.by_next_hop(next_hop), self._clock.now()
            found = self._destinations[next_hop] = self._make(next_hop, route, self._policy, since)
            self._freeze(found)
            if next_hop in self._rests:
                self._let_rest(found, self._rests.pop(next_hop))
        found.used_at = self._clock.monotonic()
        return found

    def _forget_idle(self) -> None:
        now = self._clock.monotonic()
        idle = [one.next_hop for one in self._destinations.values() if one.is_forgettable(now, MEMORY)]
        for next_hop in idle:
            del self._destinations[next_hop]
        if self._rests:
            at = self._clock.now()
            self._rests = {hop: rest for hop, rest in self._rests.items() if rest.until > at}

    # ---- turns
    def _give_turn(self, destination: Destination) -> None:
        if destination.waiting and not destination.in_turn:
            destination.in_turn = True
            self._turns.append(destination)

    def _give_turn_later(self, destination: Destination, seconds: float) -> None:
        """Its route wants messages no faster than that: its next turn is then."""

        def now() -> None:
            self._give_turn(destination)
            self._pump()

        asyncio.get_running_loop().call_later(seconds, now)

    def _pump(self) -> None:
        """Set workers to what may start."""
        while self._turns and (self._idle or len(self._workers) < self._capacity.attempts):
            turn = self._next()
            if isinstance(turn, _NoTurn):
                return
            if self._idle:  # a worker that lives on costs a message half of what a new task would, some 2 µs less
                self._idle.pop().set_result(turn)
            else:
                worker = asyncio.create_task(self._work(turn))
                self._workers.add(worker)
                worker.add_done_callback(self._workers.discard)

    def _next(self) -> _Turn | _NoTurn:
        """The next lease whose turn it is, if there is one; destinations take turns."""
        if not self._turns or self._stopping or self._settler.is_failing:
            return _NO_TURN
        now = self._clock.monotonic()
        for _ in range(len(self._turns)):
            destination = self._turns.popleft()
            destination.in_turn = False
            self._drop_ended(destination)
            if not destination.waiting:
                continue
            may = destination.may(now)
            if may is May.NOT_YET:
                if destination.paced_until > now:
                    self._give_turn_later(destination, destination.paced_until - now)
                continue  # an attempt that ends there gives it its turn again
            if may is May.OTHERS or (may is May.START and not self._crowd.admits(destination, self._busy, now)):
                self._passed_over.add(destination)
                self._relieve_soon()
                continue
            held = destination.waiting.take()
            if may is May.START:
                if not destination.running:
                    destination.moved_at = now
                destination.running += 1
                if destination.pace:
                    destination.paced_until = now + destination.pace
            self._give_turn(destination)
            return destination, held, may
        return _NO_TURN

    def _drop_ended(self, destination: Destination) -> None:
        """Let go of leases that waited here past their end: somebody else may hold them by now."""
        now = self._clock.now()
        while destination.waiting and destination.waiting.first().lease.until <= now:
            self._held.forget((destination.waiting.take(),))

    # ---- a crowd
    @property
    def _busy(self) -> int:
        """Workers that have something to do."""
        return len(self._workers) - len(self._idle)

    def _relieve_soon(self) -> None:
        if not self._relief_is_due and not self._stopping:
            self._relief_is_due = True
            asyncio.get_running_loop().call_later(RELIEF.total_seconds(), self._relieve)

    def _relieve(self) -> None:
        """Let those who stall give way, and those who had to wait have another turn."""
        self._relief_is_due = False
        if self._stopping:
            return
        now = self._clock.monotonic()
        in_doubt = [one for one in self._destinations.values() if one.standing(now) is Standing.DOUBTFUL]
        if not self._held.is_below(0.5):
            for destination in in_doubt:
                self._trim(destination, max(1, self._capacity.leases // 4 // len(in_doubt)))
        for destination, keep in self._crowd.giving_way(in_doubt, self._busy):
            destination.cut_short()
            self.runner.cut_short(destination.next_hop, keep=keep)
        self._crowd.recount()
        waited, self._passed_over = self._passed_over, set()
        for destination in waited:
            self._give_turn(destination)
        self._pump()
        if self._left_on_disk or self._surplus:
            self._wake.set()

    def _trim(self, destination: Destination, few: int) -> None:
        """Leave it a few leases."""
        spare = list(destination.waiting)[few:]
        if spare:
            self._give_back(destination, destination.waiting.take_if(set(spare).__contains__))

    # ---- workers
    async def _work(self, turn: _Turn | _NoTurn) -> None:
        """One lease after another; idle, until stopped, where none may start."""
        while True:
            while not isinstance(turn, _NoTurn):
                await self._handle(*turn)
                turn = self._next()
            if self._stopping:
                return
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            turn = await idle

    async def _handle(self, destination: Destination, held: Held, may: May) -> None:
        try:
            tried = await self._try(destination, held, may)
            if isinstance(tried, Untried):
                self._surplus.append(held.lease)
                self._wake.set()
                return
            settlement = Settlement(held.lease, tried.attempt, tried.settled)
            if await self._settler.settle(settlement):
                self._expect(tried.settled)
                for _, outcome in tried.attempt.outcomes:  # not a method's: it would be one more call a message
                    destination.counts[type(outcome)] += 1
                    destination.last.append((tried.attempt.ended_at, outcome))
                tell(self._journal.attempted, tried.attempt, tried.settled)
                if self._tells_hooks:
                    await self._hooks.ended(_end_of(tried.attempt))
        except Exception as error:  # noqa: BLE001 - the last net: the lease comes back when it ends
            tell(self._journal.crashed, held.lease.message, held.lease.next_hop, error)
        finally:
            self._held.forget((held,))
            self._ask_again(destination)
            if self._turns:
                self._pump()

    async def _try(self, destination: Destination, held: Held, may: May) -> Tried | Untried:
        if may is May.DEFER and self.runner.may_go_round(held.lease, destination.route):
            return await self.runner.run(held.lease, destination.route, self._settler.known(held.lease), around=True)
        if may is May.DEFER:
            known = self._settler.known(held.lease)
            why = "not tried: the destination rests"
            return self.runner.not_tried(held.lease, destination.route, destination.cause, why, known)
        try:
            if not self._storage.holds(held.lease):
                return Untried()
            tried = await self.runner.run(held.lease, destination.route, self._settler.known(held.lease))
            if isinstance(tried, Tried) or isinstance(tried.reach, AuthorisationEnded | Exhausted):
                destination.moved_at = self._clock.monotonic()
                self._learn(destination, tried.reach)
        finally:
            destination.running -= 1
            destination.used_at = self._clock.monotonic()
            if destination.guests:
                _call_in(destination)
            self._give_turn(destination)
            self._pump()
        return tried

    # ---- guests
    async def host(self, route: Route, attempt: Attempting) -> Reach | Elsewhere:
        """Make an attempt with another next hop's mail at this route's, within what may run there at once.

        `Elsewhere`: it rests, or is held; then no attempt was made.
        """
        destination = self._destination(route.next_hop)
        if not await self._has_place(destination):
            return Elsewhere()
        now = self._clock.monotonic()
        if not destination.running:
            destination.moved_at = now
        destination.running += 1
        if destination.pace:
            destination.paced_until = now + destination.pace
        try:
            reach = await attempt()
            destination.moved_at = self._clock.monotonic()
            self._learn(destination, reach)
            return reach
        finally:
            destination.running -= 1
            destination.used_at = self._clock.monotonic()
            _call_in(destination)
            self._give_turn(destination)
            self._pump()

    async def _has_place(self, destination: Destination) -> bool:
        """Wait for a place there; False: none is to be had while it rests or is held."""
        while not destination.is_held:
            now = self._clock.monotonic()
            match destination.may(now):
                case May.START:
                    return True
                case May.DEFER:
                    return False
                case May.NOT_YET | May.OTHERS:
                    called = asyncio.get_running_loop().create_future()
                    destination.guests.append(called)
                    try:  # other workers, and a rate, call nobody in: it is looked again
                        await asyncio.wait([called], timeout=_patience(destination, now))
                    finally:
                        called.cancel()
        return False

    def _expect(self, settled: Iterable[Settled]) -> None:
        """Wake the loop where something just settled is due before it would have asked."""
        for one in settled:
            if isinstance(one.next, Wait) and one.next.until < self._asks_at:
                self._wake.set()

    def _ask_again(self, destination: Destination) -> None:
        """Wake the loop where it is worth asking the queue for more: half of what was held has gone."""
        for_it = destination.has_more and len(destination.waiting) <= destination.low_water
        for_all = self._left_on_disk and len(self._held) <= self._capacity.leases // 2
        if for_it or for_all:
            self._wake.set()

    def _learn(self, destination: Destination, reach: Reach | Elsewhere) -> None:
        now = self._clock.monotonic()
        match reach:
            case Reached():
                if destination.succeeded():
                    self._tell_rest(_Rest(destination.next_hop, 0.0, ""))
            case Elsewhere():
                pass
            case Unreachable(cause):
                rest = destination.failed(cause, now)
                if rest:
                    until = self._rests_until(destination, rest, cause)
                    tell(self._journal.destination_rests, destination.next_hop, cause, until)
            case CredentialsRefused(cause):
                rest = destination.rest(cause, CREDENTIALS_REST, now)
                until = self._rests_until(destination, rest, cause)
                tell(self._journal.credentials_refused, destination.next_hop, cause, until)
            case AuthorisationEnded(cause):
                if not destination.is_held or destination.frozen:
                    tell(self._journal.authorisation_ended, destination.next_hop, cause)
                destination.hold(cause)
                self._give_back(destination, destination.waiting.take_if(lambda _: True))
                self._wake.set()
            case Exhausted(cause, until):
                if not destination.is_held:
                    tell(self._journal.quota_spent, destination.next_hop, cause, until)
                destination.stay(cause, now + until - self._clock.now())
                self._give_back(destination, destination.waiting.take_if(lambda _: True))
                self._wake.set()
            case _:
                assert_never(reach)

    def _rests_until(self, destination: Destination, rest: timedelta, cause: Cause) -> Instant:
        """When a rest ends that begins now; the others hear of it."""
        until = self._clock.now() + rest.total_seconds()
        whole = (type(cause).__name__, cause) if isinstance(cause, _TOLD_WHOLE) else ("", None)
        self._tell_rest(_Rest(destination.next_hop, until, describe_cause(cause), *whole))
        return until


def _call_in(destination: Destination) -> None:
    """A place is free: the guest that has waited longest may look."""
    while destination.guests:
        called = destination.guests.popleft()
        if not called.done():
            called.set_result(None)
            return


def _patience(destination: Destination, now: float) -> float:
    """Seconds until a guest looks again: when the rate has room again, or soon."""
    paced = destination.paced_until - now if destination.pace else 0.0
    return min(paced, RELIEF.total_seconds()) if paced > 0 else RELIEF.total_seconds()


def _until(due: Instant, now: Instant) -> timedelta:
    """How long it is until then. Never nothing while it is not yet due: that would be to ask again and again."""
    return max(timedelta(seconds=due - now), timedelta.resolution) if due > now else timedelta()


def _end_of(attempt: Attempt) -> Ended:
    """An attempt's end, as hooks hear of it."""
    message = attempt.message
    outcomes = tuple((recipient.forward_path, outcome) for recipient, outcome in attempt.outcomes)
    return Ended(message.id, message.reverse_path, attempt.next_hop, outcomes)


def _key(lease: Lease) -> tuple[MessageId, int]:
    return lease.message.id, lease.token

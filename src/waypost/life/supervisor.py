"""The supervisor: begins the workers and the desk that answers for them, begins again what dies, ends them all.

It is made never to die. It runs no event loop and touches no mail, no spool and no network but the listening sockets,
which it opens and never reads: each worker has its own of every address (SO_REUSEPORT), and while a worker is begun
again, connections wait in its sockets' backlog and are not refused. Should the supervisor be killed all the same, its
processes end as at SIGTERM (control.py), and the next supervisor finds the spool free.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias, assert_never

import msgspec
import structlog

from waypost.admin.answers import ListenerFacts, OperationError
from waypost.config import Config
from waypost.life.control import Failed, Ready, Reloaded, pair, words
from waypost.life.handover import Offer
from waypost.life.hangup import kept_back, let_come
from waypost.life.notify import Notifier
from waypost.life.place import Place, accept, desk_row, numbers_of, text_of, wanted
from waypost.life.serving import REPLACED, Serving
from waypost.life.worker import RESTARTS
from waypost.net.clock import Clock
from waypost.net.shared import SharedNumbers
from waypost.net.sockets import Sockets
from waypost.net.stream import Endpoint
from waypost.queue.common_shelf import prepare_shelf
from waypost.queue.shards import remove_blank, shards

#: Before a process that died is begun again: doubled each time it dies young, up to the longest.
PAUSE: Final = timedelta(seconds=0.5)
LONGEST_PAUSE: Final = timedelta(seconds=10)
#: Having lived so long, a process is no longer young.
YOUNG: Final = timedelta(minutes=1)
#: How long the start waits for a spool that somebody else is just leaving.
PATIENCE: Final = timedelta(seconds=60)
#: The least often it looks around.
LOOK: Final = timedelta(seconds=1)
#: And while it starts: nobody signals that a worker is ready.
STARTING: Final = timedelta(milliseconds=20)
#: The process that answers for all.
DESK: Final = "desk"

_SIGNALS: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class _Gone:
    """No process: it is to be begun at `at` (monotonic seconds)."""

    at: float


@dataclass(frozen=True, slots=True)
class _Runs:
    """A process, since `since` (monotonic seconds), and our end of the pair."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    since: float


_State: TypeAlias = _Gone | _Runs


@dataclass(slots=True)
class _Child:
    """One of the processes there are to be."""

    name: str
    command: Sequence[str]
    sockets: Sequence[socket.socket] = ()
    state: _State = _Gone(0.0)
    pause: timedelta = PAUSE
    is_ready: bool = False

    def begin(self, now: float) -> None:
        """Raises: OSError, where the machine has no room for another process."""
        ours, theirs = pair()
        try:
            # Its own group: Ctrl-C reaches the supervisor, which tells the others when it is their turn.
            with kept_back():
                process = subprocess.Popen(  # noqa: S603 - this program itself
                    self.command,
                    stdin=theirs.fileno(),
                    pass_fds=[one.fileno() for one in self.sockets],
                    process_group=0,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.state, self.is_ready = _Runs(process, ours, now), False

    def send(self, number: signal.Signals) -> None:
        """Pass a signal on."""
        if isinstance(self.state, _Runs):
            self.state.process.send_signal(number)

    def buried(self, died: _Runs, now: float) -> None:
        """It has ended: when the next is begun."""
        died.control.close()
        self.is_ready = False
        young = now - died.since < YOUNG.total_seconds()
        self.pause = min(self.pause * 2, LONGEST_PAUSE) if young else PAUSE
        self.state = _Gone(now + self.pause.total_seconds())


class Supervisor:
    """One service of several processes. `given`: listening sockets that are open already."""

    def __init__(self, config: Config, clock: Clock, *, given: Sockets, notifier: Notifier) -> None:
        """Raises: ListenError, StorageError, OSError: it cannot start, and why."""
        self._clock = clock
        self._config = config
        self._log = structlog.get_logger()
        for index in remove_blank(config.spool, wanted(config)):
            self._log.info("a shard that held nothing any more was removed", shard=index)
        self._shards = sorted({*range(wanted(config)), *shards(config.spool)})
        prepare_shelf(config.spool)
        self._runtime = _runtime(self._shards)
        text_of(self._runtime).write_text(config.text, "utf-8")
        self._numbers = SharedNumbers.open(Path(numbers_of(self._runtime)), desk_row(self._shards) + 1)
        self._sockets = _dealt(config, wanted(config), given)
        self._children = [self._worker(index, wanted(config)) for index in self._shards]
        self._children.append(self._desk(wanted(config)))
        self._listeners: tuple[ListenerFacts, ...] = ()
        self._admin = ""
        self._notifier = notifier
        self._offer = Offer.open(config.spool)
        self._ends_at = clock.monotonic() + PATIENCE.total_seconds()
        self._life_due = clock.monotonic()
        self._has_served = False
        self._following: set[str] = set()  # workers that have not yet told what came of a SIGHUP
        self._stopping = False

    def _worker(self, index: int, workers: int) -> _Child:
        sockets = self._sockets[index] if index < workers else []
        place = Place(index, workers, self._runtime, self._config.where, tuple(one.fileno() for one in sockets))
        return _Child(f"worker {index}", (*_PROGRAM, "worker", _json(place)), sockets)

    def _desk(self, workers: int) -> _Child:
        place = Place(desk_row(self._shards), workers, self._runtime, self._config.where)
        return _Child(DESK, (*_PROGRAM, "desk", _json(place), _json(self._shards)))

    def run(self, ready: Callable[[Serving], None]) -> int:
        """Serve until SIGTERM or SIGINT; the exit status. Raises: OSError, with a sentence."""
        with _signals() as told, contextlib.closing(self):
            while True:
                self._look(ready)
                if self._stopping and not self._running():
                    self._log.info("stopped: what is left waits in the spool")
                    return 0
                for number in told(self._pause()):
                    self._hear(number)

    def close(self) -> None:
        """End what still runs, whatever happened, and leave nothing behind."""
        for child in self._running():
            child.send(signal.SIGTERM)
        for child in self._running():
            if isinstance(child.state, _Runs):
                child.state.process.wait()
        for sockets in self._sockets:
            for one in sockets:
                one.close()
        self._offer.close()
        shutil.rmtree(self._runtime, ignore_errors=True)

    # ---- the round
    def _look(self, ready: Callable[[Serving], None]) -> None:
        now = self._clock.monotonic()
        self._show_life(now)
        if not self._stopping and self._offer.give([one for sockets in self._sockets for one in sockets]):
            self._log.info("another process takes the listeners over")
            self._stopping = True
            self._tell_workers(REPLACED)
        if self._stopping and [child.name for child in self._running()] == [DESK]:
            self._running()[0].send(signal.SIGTERM)
        for child in self._children:
            match child.state:
                case _Runs() as runs:
                    self._listen(child, runs)
                    if runs.process.poll() is not None:
                        self._bury(child, runs, now)
                case _Gone(at):
                    if not self._stopping and now >= at:
                        self._begin(child, now)
                case _:
                    assert_never(child.state)
        if not self._has_served and not self._stopping and all(child.is_ready for child in self._children):
            self._has_served = True
            ready(Serving(self._listeners, self._admin))
            self._notifier.ready(f"{len(self._children) - 1} workers take mail")

    def _show_life(self, now: float) -> None:
        if self._notifier.watchdog and now >= self._life_due:
            self._notifier.alive()
            self._life_due = now + self._notifier.watchdog.total_seconds() / 2

    def _begin(self, child: _Child, now: float) -> None:
        try:
            child.begin(now)
        except OSError as error:
            self._log.error("a process could not be begun; it is tried again", process=child.name, why=str(error))
            child.pause = min(child.pause * 2, LONGEST_PAUSE)
            child.state = _Gone(now + child.pause.total_seconds())

    def _listen(self, child: _Child, runs: _Runs) -> None:
        for word in words(runs.control):
            match word:
                case Ready(listeners, admin):
                    child.is_ready = True
                    self._listeners = self._listeners or listeners
                    self._admin = admin if child.name == DESK else self._admin
                    self._log.info("a process is ready", process=child.name, pid=runs.process.pid)
                case Reloaded(status):
                    self._followed(child, status)
                case Failed(why, passing):
                    self._failed(why, passing=passing)
                case _:
                    assert_never(word)

    def _failed(self, why: str, *, passing: bool) -> None:
        """At the start, say so and end; later there is a service to be kept."""
        if not self._has_served and not (passing and self._clock.monotonic() < self._ends_at):
            raise OSError(why)
        self._log.error("a process cannot begin; it is tried again", why=why)

    def _bury(self, child: _Child, runs: _Runs, now: float) -> None:
        self._listen(child, runs)
        was_ready, status = child.is_ready, runs.process.returncode
        child.buried(runs, now)
        if self._stopping:
            return
        self._followed(child, "takes mail")
        if child.name != DESK:
            self._numbers.clear(int(child.name.rpartition(" ")[2]))  # its connections are gone with it
        if was_ready:
            self._numbers.add(RESTARTS, 1)
        again = round(child.pause.total_seconds(), 1)
        self._log.error("a process died; it is begun again", process=child.name, status=status, again_in_seconds=again)

    # ---- being told
    def _hear(self, number: signal.Signals) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            if not self._stopping:
                self._log.info("stopping: what is under way may end")
                self._notifier.stopping("what is under way may end")
            self._stopping = True
            self._tell_workers(signal.SIGTERM)
        elif number is signal.SIGHUP:
            self._reload()

    def _reload(self) -> None:
        self._notifier.reloading()
        try:
            self._config = accept(self._runtime, self._config)
        except (OperationError, OSError) as error:
            self._log.error("the configuration was not reloaded", why=str(error))
            self._notifier.ready(f"the configuration was not reloaded: {error}")
            return
        self._following = {child.name for child in self._running() if child.name != DESK}
        self._tell_workers(signal.SIGHUP)

    def _followed(self, child: _Child, status: str) -> None:
        """A worker goes on by the configuration that is in force; after the last, the reload is over."""
        if child.name in self._following:
            self._following.discard(child.name)
            if not self._following:
                self._notifier.ready(status)

    def _tell_workers(self, number: signal.Signals) -> None:
        for child in self._running():
            if child.name != DESK:
                child.send(number)

    def _running(self) -> Sequence[_Child]:
        return [child for child in self._children if isinstance(child.state, _Runs)]

    def _pause(self) -> timedelta:
        """How long nothing need be done, unless somebody says something."""
        if self._stopping:
            return LOOK
        now = self._clock.monotonic()
        dues = [child.state.at - now for child in self._children if isinstance(child.state, _Gone)]
        look = LOOK if self._has_served else STARTING
        return timedelta(seconds=max(0.0, min([look.total_seconds(), *dues])))


_PROGRAM: Final = (sys.executable, "-m", "waypost.life")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _runtime(indices: Sequence[int]) -> str:
    """The directory of what lasts as long as we do, with the file of shared numbers in it."""
    parent = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or None
    directory = tempfile.mkdtemp(prefix="waypost-", dir=parent)
    SharedNumbers.create(Path(numbers_of(directory)), desk_row(indices) + 2)
    return directory


def _dealt(config: Config, workers: int, given: Sockets) -> Sequence[list[socket.socket]]:
    """For each worker its sockets, one of each address at least. Raises: ListenError."""
    dealt: list[list[socket.socket]] = [[] for _ in range(workers)]
    for listener in config.listeners:
        for number, one in enumerate(_of(listener.address, workers, given)):
            dealt[number % workers].append(one)
    given.close()
    return dealt


def _of(address: Endpoint, workers: int, given: Sockets) -> Sequence[socket.socket]:
    """Sockets for one address, shared where there are too few for each worker to have its own."""
    there = list(given.take(address))
    return there + [there[number % len(there)].dup() for number in range(len(there), workers)] if there else []


def _once(number: signal.Signals, told: Sequence[signal.Signals]) -> Sequence[signal.Signals]:
    """The same without a second `number`; of the others each counts."""
    others = [one for one in told if one is not number]
    return [number, *others] if number in told else others


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[timedelta], Sequence[signal.Signals]]]:
    """Yields a wait: for so long, or until a signal comes; the signals that came.

    Of SIGHUPs that came together one is told: each reads the same file, and a storm of them must not keep us from the
    processes.
    """
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    with selectors.DefaultSelector() as selector, reading, writing:
        selector.register(reading, selectors.EVENT_READ)

        def wait(pause: timedelta) -> Sequence[signal.Signals]:
            selector.select(pause.total_seconds())
            with contextlib.suppress(BlockingIOError):
                return _once(signal.SIGHUP, [signal.Signals(number) for number in reading.recv(4096)])
            return []

        let_come()

        try:
            yield wait
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)

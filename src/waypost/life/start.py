"""How `waypost serve` begins: its sockets first, then its user, then one process or a supervisor of several."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial

from waypost.app import Parts, log_of
from waypost.config import Config
from waypost.life.claim import claim, see_that_nobody_has
from waypost.life.handover import take_over
from waypost.life.notify import from_environment
from waypost.life.place import wanted
from waypost.life.privilege import become
from waypost.life.serving import Manager, Serving, serve
from waypost.life.supervisor import Supervisor
from waypost.net.clock import SystemClock
from waypost.net.listener import bind, foresee
from waypost.net.sockets import Sockets, from_systemd
from waypost.net.stream import Endpoint, endpoint_of
from waypost.queue.shards import remove_blank, shards
from waypost.receive.server import Receiver


def start(config: Config, ready: Callable[[Serving], None], *, replace: bool = False) -> int:
    """Serve until told to stop; the exit status. Raises: StorageError, ListenError, OSError: it cannot start, why.

    `replace`: in the place of the service that runs on this spool now, with its sockets.
    """
    if replace:
        for address in (config.admin.address, *(listener.address for listener in config.listeners)):
            foresee(address)  # while the other still serves
    taken = take_over(config.spool) if replace else from_systemd(os.environ, os.getpid())
    clock = SystemClock()
    if not config.database:
        see_that_nobody_has(config.spool, clock)
    workers, sockets = wanted(config), _bound(config, Sockets(taken))
    if config.service.user:
        become(config.service.user, config.spool)
    if not config.database:
        claim(config.spool, clock)
    if workers == 1:
        remove_blank(config.spool, workers)
    notifier = from_environment()
    if workers == 1 and len(shards(config.spool)) == 1:
        parts = Parts(receiver=partial(Receiver, sockets=sockets), sockets=lambda: sockets)
        return serve(config, Manager(config.spool, ready, notifier), parts=parts)
    log = log_of(config, clock, {"worker": "supervisor"})
    try:
        return Supervisor(config, clock, given=sockets, notifier=notifier).run(ready)
    finally:
        log.close()


def _bound(config: Config, given: Sockets) -> Sockets:
    """A socket for each listener at least, one for each worker. Raises: ListenError."""
    bound = [one for listener in config.listeners for one in _of(listener.address, wanted(config), given)]
    given.close()  # of addresses that the configuration no longer has
    return Sockets(bound)


def _of(address: Endpoint, workers: int, given: Sockets) -> list[socket.socket]:
    there = list(given.take(address))
    if there:
        return there
    if workers == 1:
        return [bind(address)]
    first = bind(address, shared=True)
    where = endpoint_of(first.getsockname())
    return [first, *(bind(where, shared=True) for _ in range(1, workers))]

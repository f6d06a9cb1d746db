"""How `waypost serve` begins: as one process, or as a supervisor of several."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from waypost.app import Parts, log_of
from waypost.config import Config
from waypost.life.place import wanted
from waypost.life.serving import Nobody, Serving, serve
from waypost.life.supervisor import Supervisor
from waypost.net.clock import SystemClock
from waypost.net.sockets import Sockets, from_systemd
from waypost.queue.shards import remove_blank, shards
from waypost.receive.server import Receiver


def start(config: Config, ready: Callable[[Serving], None]) -> int:
    """Serve until told to stop; the exit status. Raises: StorageError, ListenError, OSError: it cannot start, why."""
    given = Sockets(from_systemd(os.environ, os.getpid()))
    workers = wanted(config)
    if workers == 1:
        remove_blank(config.spool, workers)
    if workers == 1 and len(shards(config.spool)) == 1:
        return serve(
            config, Nobody(ready), parts=Parts(receiver=partial(Receiver, sockets=given), sockets=lambda: given)
        )
    clock = SystemClock()
    log = log_of(config, clock, {"worker": "supervisor"})
    try:
        return Supervisor(config, clock, given=given).run(ready)
    finally:
        log.close()

"""The parts that meet the world outside; a benchmark or a test puts others in their place."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from waypost.config import Complaints, Config, load
from waypost.config.parts import spool
from waypost.deliver.destination import Destination
from waypost.hooks.runtime import OwnThread, Runtime
from waypost.mail.envelope import NextHop
from waypost.net.clock import Clock, Instant, SystemClock
from waypost.net.dialer import AsyncioDialer, Dialer
from waypost.net.sockets import Sockets
from waypost.queue.ids import MessageIds
from waypost.queue.schedule import RetryPolicy
from waypost.queue.storage import Storage
from waypost.receive.house import House
from waypost.receive.server import Receiver
from waypost.receive.settings import Door
from waypost.route.route import NoRoute, Route


def _read_again(config: Config) -> Config | Complaints:
    return load(Path(config.where))


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that meet the world outside; a benchmark or a test puts others in their place."""

    clock: Callable[[], Clock] = SystemClock
    storage: Callable[[Config], Storage] = spool
    dialer: Callable[[], Dialer] = AsyncioDialer
    receiver: Callable[[tuple[Door, ...], House], Receiver] = Receiver
    runtime: Callable[[str], Runtime] = OwnThread  # where a module's hooks run
    #: Listening sockets that another process opened for us.
    sockets: Callable[[], Sockets] = Sockets
    #: Whether clients come to this process; and whether it does what one of several does: takes up files, calls others.
    takes_mail: bool = True
    picks_up: bool = True
    #: Whether readiness visits our own listeners, as a client would.
    probes: bool = True
    destination: Callable[[NextHop, Route | NoRoute, RetryPolicy, Instant], Destination] = Destination
    #: Whether other processes of this machine share the spool's shelf; of other machines, the configuration tells.
    has_fellows: bool = False
    ids: Callable[[Clock, random.Random], MessageIds] = MessageIds
    #: Where the configuration is read from again, by the one in force.
    read: Callable[[Config], Config | Complaints] = _read_again
    #: What every line of the log says besides.
    log_fields: Mapping[str, object] = field(default_factory=dict)


REAL: Final = Parts()

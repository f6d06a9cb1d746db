"""What all sessions share: where mail is kept, who may send what, and who is told.

Not here: what belongs to one client (client.py), or to one door (settings.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from waypost.mail.envelope import MessageId
from waypost.net.clock import Clock
from waypost.policy.access import ANY_SENDER, NO_COPIES, OPEN_TO_ALL, Access, Copies, Senders
from waypost.policy.admission import Admission, RelayPolicy
from waypost.policy.gate import NO_GATE, Gate
from waypost.policy.hooked import UNHOOKED, Hooked
from waypost.queue.storage import Storage
from waypost.receive.body import InFlight
from waypost.receive.login import NO_LOGINS, Logins
from waypost.receive.ports import BOUNDLESS, UNTRACED, Onward, ReceiveLog, Space, Traced
from waypost.receive.resent import Resent
from waypost.receive.settings import ReceiveSettings
from waypost.receive.turns import NO_TURNS, Turns


class Ids(Protocol):
    """Who names messages."""

    def make(self) -> MessageId:
        """A new name."""
        ...


@dataclass(frozen=True, slots=True)
class House:
    """What all sessions share."""

    storage: Storage
    admission: Admission
    relay: RelayPolicy
    settings: ReceiveSettings
    clock: Clock
    ids: Ids
    log: ReceiveLog
    onward: Onward
    in_flight: InFlight
    resent: Resent
    space: Space = BOUNDLESS
    access: Access = OPEN_TO_ALL
    senders: Senders = ANY_SENDER
    copies: Copies = NO_COPIES
    logins: Logins = NO_LOGINS
    turns: Turns = NO_TURNS
    revision: str = ""  # of the configuration
    hooked: Hooked = UNHOOKED
    gate: Gate = NO_GATE
    traced: Traced = UNTRACED

"""A worker's place among the workers: what its supervisor tells it when it begins, and what follows from that.

Each shard that exists has a process, also when there are fewer workers than before. Such a process takes no mail; it
delivers what its shard holds and answers for its history.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from waypost.admin.answers import FailureKind, OperationError
from waypost.app import Parts
from waypost.config import Complaints, Config, load, parse
from waypost.config.change import needs_restart
from waypost.deliver.sharing import Shares
from waypost.net.shared import SharedNumbers
from waypost.net.sockets import Sockets
from waypost.net.stream import Endpoint
from waypost.queue.ids import MessageIds
from waypost.queue.shards import shard
from waypost.receive.places import SharedCrowd
from waypost.receive.server import Receiver


def wanted(config: Config) -> int:
    """How many workers are to take mail."""
    workers = config.service.workers
    return len(os.sched_getaffinity(0)) if workers == "auto" else workers


@dataclass(frozen=True, slots=True)
class Place:
    """`index`: which shard; `workers`: how many take mail; `sockets`: descriptors of the listeners.

    `where`: the configuration's file. Its text is read from a copy, so that a worker which is begun again while
    somebody edits the file has what the others have. `runtime`: a directory for what lasts as long as the supervisor:
    the workers' admin sockets, the numbers they share.
    """

    index: int
    workers: int
    runtime: str
    where: str
    sockets: tuple[int, ...] = ()

    @property
    def takes_mail(self) -> bool:
        """Whether clients are dealt to it."""
        return self.index < self.workers

    @property
    def admin(self) -> Endpoint:
        """Where this worker answers the one that answers for all."""
        return admin_of(self.runtime, self.index)

    def whole(self) -> Config | Complaints:
        """The configuration of all. Raises: OSError."""
        text = text_of(self.runtime).read_text("utf-8")
        return parse(text, where=self.where, base=Path(self.where).absolute().parent)

    def again(self, _: Config) -> Config | Complaints:
        """The worker's part of the configuration as it is by now."""
        whole = self.whole()
        return whole if isinstance(whole, Complaints) else self.part(whole)

    def part(self, whole: Config) -> Config:
        """The worker's part of the configuration: its shard, its admin socket, its share of what a process may do."""
        limits, workers = whole.limits, max(1, self.workers)
        part = {"deliveries": max(10, limits.deliveries // workers), "memory": max(1 << 20, limits.memory // workers)}
        return replace(
            whole,
            spool=shard(whole.spool, self.index),
            admin=whole.admin.model_copy(update={"address": self.admin}),
            limits=limits.model_copy(update=part),
        )

    def parts(self) -> Parts:
        """What its service is built from: the numbers and sockets that are shared with the others."""
        numbers = SharedNumbers.open(Path(numbers_of(self.runtime)), self.index)
        sockets = Sockets(socket.socket(fileno=number) for number in self.sockets)
        return Parts(
            receiver=partial(Receiver, sockets=sockets, crowd=partial(SharedCrowd, numbers)),
            sockets=lambda: sockets,
            takes_mail=self.takes_mail,
            picks_up=not self.index,
            has_fellows=True,
            destination=Shares(numbers, self.index).destination,
            ids=partial(MessageIds, worker=self.index),
            log_fields={"worker": self.index},
            read=self.again,
        )


def accept(runtime: str, old: Config) -> Config:
    """Let the file be what workers read from now on, if they may. Raises: OperationError; then nothing has changed."""
    new = load(Path(old.where))
    if isinstance(new, Complaints):
        raise OperationError(FailureKind.REFUSED, str(new), "nothing has changed; mend the file")
    fixed = refused_for(old, new)
    if fixed:
        raise OperationError(FailureKind.REFUSED, "; ".join(fixed), "nothing has changed; start again")
    replaced = text_of(runtime).with_suffix(".new")
    replaced.write_text(new.text, "utf-8")
    replaced.replace(text_of(runtime))
    return new


def refused_for(old: Config, new: Config) -> Sequence[str]:
    """What differs that cannot change while workers run, a sentence each."""
    fixed = list(needs_restart(old, new))
    if [one.address for one in old.listeners] != [one.address for one in new.listeners]:
        fixed.append("the listeners' addresses changed, and all workers share their sockets: that needs a restart")
    return fixed


def admin_of(runtime: str, index: int) -> Endpoint:
    """The Unix socket on which worker `index` answers."""
    return Endpoint(f"{runtime}/{index}.sock", 0)


def numbers_of(runtime: str) -> str:
    """The file of the numbers that all workers keep together."""
    return f"{runtime}/numbers"


def text_of(runtime: str) -> Path:
    """The copy of the configuration that all processes read."""
    return Path(runtime) / "waypost.toml"


def desk_row(shards: Sequence[int]) -> int:
    """The row of the desk in that file, which it only reads; the supervisor's is the next, and the last."""
    return max(shards) + 1

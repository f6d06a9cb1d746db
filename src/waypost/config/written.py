"""A document's sections as they are written, each validated by itself.

Not here: how they go together (check.py and its neighbours), and what they come to (load.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from waypost.config.model import (
    ARRAYS,
    TABLES,
    Access,
    Admin,
    Auth,
    Certificate,
    ClientRate,
    Cluster,
    Copy,
    Destination,
    Dkim,
    Dns,
    DnsList,
    Domain,
    Fetch,
    Greylist,
    HeloMemory,
    History,
    Hook,
    Limits,
    Listener,
    Log,
    Map,
    Notices,
    OAuth,
    Pickup,
    Relay,
    Retry,
    Rewriting,
    Route,
    Screening,
    Section,
    Senders,
    Service,
    Timeouts,
    Tls,
    TlsReporting,
    Tracing,
)
from waypost.config.sections import Found, Reader

S = TypeVar("S", bound=Section)
#: `[name]`: the one there is, by its defaults where the file has none of it; none, where it is faulty.
Table: TypeAlias = Sequence[S]
#: `[[name]]`: those that are not faulty.
Array: TypeAlias = Sequence[Found[S]]


@dataclass(frozen=True, slots=True)
class Written:
    """All sections there are, by the names they have in the file."""

    service: Table[Service]
    tls: Table[Tls]
    admin: Table[Admin]
    pickup: Table[Pickup]
    relay: Table[Relay]
    access: Table[Access]
    senders: Table[Senders]
    screening: Table[Screening]
    greylist: Table[Greylist]
    auth: Table[Auth]
    rewriting: Table[Rewriting]
    retry: Table[Retry]
    limits: Table[Limits]
    timeouts: Table[Timeouts]
    dns: Table[Dns]
    history: Table[History]
    log: Table[Log]
    helo_memory: Table[HeloMemory]
    tracing: Table[Tracing]
    cluster: Table[Cluster]
    dkim: Table[Dkim]
    tls_reporting: Table[TlsReporting]
    notices: Table[Notices]
    listener: Array[Listener]
    certificate: Array[Certificate]
    oauth: Array[OAuth]
    route: Array[Route]
    destination: Array[Destination]
    domain: Array[Domain]
    map: Array[Map]
    copy: Array[Copy]
    hook: Array[Hook]
    fetch: Array[Fetch]
    rate: Array[ClientRate]
    dns_list: Array[DnsList]

    @classmethod
    def of(cls, reader: Reader) -> Written:
        """All of them; what is faulty in one by itself has been complained of."""
        tables = {name: reader.table(name, model) for name, model in TABLES.items()}
        arrays = {name: reader.array(name, model) for name, model in ARRAYS.items()}
        return cls(**tables, **arrays)  # type: ignore[arg-type] # each by its own model, as a test compares

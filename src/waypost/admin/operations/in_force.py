"""What the configuration in force comes to, as far as questions are answered by it."""

from __future__ import annotations

from dataclasses import dataclass, field

from waypost.config import Config
from waypost.policy.admission import Admission
from waypost.policy.gate import NO_GATE, OpenGate, WatchedGate
from waypost.policy.rewriting import Rewritings
from waypost.route.hosts import HostFinder
from waypost.route.table import RouteTable


@dataclass(frozen=True, slots=True)
class InForce:
    """One configuration, built; after a reload another stands in its place, whole."""

    config: Config
    table: RouteTable
    admission: Admission
    finder: HostFinder
    gate: WatchedGate | OpenGate = NO_GATE
    rewritings: Rewritings = field(default_factory=dict)

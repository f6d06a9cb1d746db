"""Time that jumps, from where users' tests have it too: waypost.testing.clock."""

from waypost.testing.clock import (
    DEADLOCK,
    START,
    DeadlockError,
    VirtualClock,
    VirtualLoop,
    elapsed,
    run_virtual,
    settled,
    virtual,
)

__all__ = [
    "DEADLOCK",
    "START",
    "DeadlockError",
    "VirtualClock",
    "VirtualLoop",
    "elapsed",
    "run_virtual",
    "settled",
    "virtual",
]

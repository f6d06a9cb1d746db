"""What tests of logins share: a users' file with Alice and an Authenticator over it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tests.virtual import VirtualClock
from waypost.auth.attempts import Attempts, Limits
from waypost.auth.authenticator import Authenticator, UserFile
from waypost.auth.users import User, hashed, save_users

PASSWORD = "sesame"
ALICE = "alice@example.net"
HERE = "192.0.2.7"


@cache
def alice() -> User:
    """Hashed once: it takes its time."""
    return hashed(ALICE, PASSWORD)


def users_file(place: Path, *users: User) -> Path:
    path = place / "users"
    save_users(path, {user.name: user for user in users or (alice(),)})
    return path


def authenticator(place: Path, limits: Limits | None = None) -> Authenticator:
    clock = VirtualClock()
    return Authenticator(clock, Attempts(clock, limits), UserFile(users_file(place), "example.net"))

"""The administrators' file: who may see and change the service, by password or token. TOML, one table each, mode 0600.

    ["alice"]
    role = "admin"                                    # viewer, operator or admin
    password = "$argon2id$v=19$m=19456,t=2,p=1$…"

    ["grafana"]
    role = "viewer"
    token = "9f86d081884c7d65…"                       # SHA-256 of a token of 256 random bits: no salt is needed

Not here: sessions, and what a role may do (admin/guard.py); accounts that send mail (users.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from waypost.auth.files import put_in_place
from waypost.auth.users import HASHER, UsersError, prepared, stamp_of, verifies

_HEAD: Final = "# Administrators of Waypost. Written by `waypost admin`; comments are not kept.\n\n"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
#: What tokens begin with, so that one that leaks is known for what it is.
TOKEN_PREFIX: Final = "waypost_"  # noqa: S105 - the part that is no secret
#: The fewest characters of a password (NIST SP 800-63B §5.1.1.2 has 8; whoever has this one may read all mail).
SHORTEST: Final = 10


class Role(Enum):
    """What an administrator may do; each may do what those before it may."""

    VIEWER = "viewer"  # see everything but secrets
    OPERATOR = "operator"  # change the queue
    ADMIN = "admin"  # change how the service works

    def may_act_as(self, needed: Role) -> bool:
        """Whether this role covers `needed`."""
        order = tuple(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Administrator:
    """One of them. Either of `password` and `token` is empty. Shown by no repr."""

    name: str
    role: Role
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Administrator({self.name!r}, {self.role.value})"


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Role
    password: str = ""
    token: str = ""


def with_password(name: str, role: Role, password: str) -> Administrator:
    """One who logs in; takes some 50 ms. Raises: ValueError, for a name or password that will not do."""
    if len(password) < SHORTEST or len(password.encode()) > 1024 or "\0" in password:
        raise ValueError(f"a password of an administrator has {SHORTEST} to 1024 characters")
    return Administrator(_named(name), role, password=HASHER.hash(prepared(password)))


def with_token(name: str, role: Role) -> tuple[Administrator, str]:
    """A program that asks, and its token, which is kept nowhere. Raises: ValueError, for a name that will not do."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    return Administrator(_named(name), role, token=_digest(token)), token


def _named(name: str) -> str:
    if _NAME.fullmatch(name.lower()) is None:
        raise ValueError(
            "a name is 1 to 64 letters, digits, dots, dashes, underscores or @, and begins with none of these"
        )
    return name.lower()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def is_password_of(one: Administrator, password: str) -> bool:
    """Whether it is; takes some 20 ms."""
    return bool(one.password) and verifies(password, one.password)


def by_token(administrators: Mapping[str, Administrator], token: str) -> Administrator | None:
    """Whose token it is; None for nobody's. Takes as long for each."""
    digest = _digest(token)
    found = [one for one in administrators.values() if one.token and hmac.compare_digest(one.token, digest)]
    return found[0] if found else None


def load_administrators(path: Path) -> Mapping[str, Administrator]:
    """The administrators by name. Raises: UsersError."""
    try:
        stamp_of(path)
        document = tomllib.loads(path.read_text("utf-8"))
        entries = {name.lower(): msgspec.convert(entry, _Entry) for name, entry in document.items()}
    except UsersError as error:
        raise UsersError(str(error).replace("waypost user add", "waypost admin add")) from error
    except OSError as error:
        raise UsersError(f"{path} cannot be read: {error.strerror}; let user {os.geteuid()} read it") from error
    except (ValueError, msgspec.ValidationError) as error:
        raise UsersError(f"{path} is damaged: {error}; mend it, or restore it from a backup") from error
    return {name: Administrator(name, entry.role, entry.password, entry.token) for name, entry in entries.items()}


@contextmanager
def changing_administrators(path: Path) -> Iterator[dict[str, Administrator]]:
    """The administrators, to be changed and saved when the block ends well. Raises: UsersError."""
    try:
        lock = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise UsersError(f"{path.parent} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = dict(load_administrators(path)) if path.exists() else {}
        yield found
        put_in_place(path, (_HEAD + "\n".join(_written(one) for _, one in sorted(found.items()))).encode())
    except OSError as error:
        raise UsersError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        os.close(lock)


def _written(one: Administrator) -> str:
    lines = {"role": one.role.value, "password": one.password, "token": one.token}
    kept = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items() if value)
    return f"[{json.dumps(one.name)}]\n{kept}"

"""The users' file: who may log in, and what is kept of each password. TOML, one table a user, mode 0600.

    ["alice@example.net"]
    password = "$argon2id$v=19$m=19456,t=2,p=1$…"     # for PLAIN and LOGIN (RFC 9106)
    scram = "SCRAM-SHA-256$20000:…$…:…"               # for SCRAM (RFC 5803)
    may_send_as = ["alice@example.net", "example.org"]
    may_act_as = ["sales@example.net"]                # other accounts whose rights it may ask for at its login
    certificates = ["5d:0a:…"]                        # SHA-256 of a client's certificate, for EXTERNAL

It is written whole, beside the old one, and put in its place at once: who reads it finds the old users or the new ones.
Not here: when it is read again, and in which thread (authenticator.py).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError, VerifyMismatchError
from scramp import ScramException
from scramp.utils import saslprep

from waypost.auth.exchange import LONGEST
from waypost.auth.files import put_in_place
from waypost.auth.scram import Keys

#: argon2id with 19 MiB and two passes, as OWASP asks at least: some 20 ms, and two at once stay below 40 MiB.
HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)
_HEAD: Final = """\
# Users of Waypost. Written by `waypost user`; may_send_as may be changed by hand, comments are not kept.

"""
_FINGERPRINT: Final = re.compile("[0-9a-f]{64}")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class UsersError(Exception):
    """The file cannot be used; the message names it and the remedy. Not a client's fault."""


@dataclass(frozen=True, slots=True)
class User:
    """One user. `may_send_as`: empty for his own address alone. Shown by no repr."""

    name: str
    password: str
    scram: Keys
    may_send_as: tuple[str, ...] = ()
    may_act_as: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()  # SHA-256, in hexadecimal of lower case

    def __repr__(self) -> str:
        return f"User({self.name!r}, …)"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of the file from another."""

    inode: int
    changed_ns: int
    size: int


def hashed(name: str, password: str, may_send_as: tuple[str, ...] = ()) -> User:
    """A user with a new password; takes some 50 ms. Raises: ValueError, for a name or password nobody could use."""
    name = name.strip().lower()
    if not name or len(name.encode()) > LONGEST or not name.isprintable():
        raise ValueError("a user name is 1 to 1024 printable octets")
    if not 1 <= len(password.encode()) <= LONGEST or "\0" in password:
        raise ValueError("a password is 1 to 1024 octets without NUL")
    return User(name, HASHER.hash(prepared(password)), Keys.of(password), tuple(entry.lower() for entry in may_send_as))


def fingerprint(text: str) -> str:
    """A certificate's SHA-256 as it is kept; colons, as openssl prints it, and capitals are let through.

    Raises: ValueError.
    """
    kept = text.replace(":", "").strip().lower()
    if not _FINGERPRINT.fullmatch(kept):
        raise ValueError(
            f"{text!r} is no SHA-256 of a certificate; `openssl x509 -noout -fingerprint -sha256` prints it"
        )
    return kept


def verifies(password: str, hashed_password: str) -> bool:
    """Whether the password is the hashed one; takes some 20 ms, without the interpreter's lock."""
    try:
        return HASHER.verify(hashed_password, prepared(password))
    except VerifyMismatchError:
        return False
    except (Argon2Error, InvalidHashError) as error:
        raise UsersError(f"a password in the users' file is no argon2 hash: {error}") from error


def prepared(password: str) -> str:
    """The password as SASLprep has it (RFC 4013), so that PLAIN and SCRAM agree; as it is, where that forbids it."""
    try:
        prepared_password: str = saslprep(password)
    except ScramException:
        return password
    return prepared_password


# ---- the file
class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    password: str
    scram: str
    may_send_as: list[str] = []
    may_act_as: list[str] = []
    certificates: list[str] = []


def stamp_of(path: Path) -> Stamp:
    """The state of the file. Raises: UsersError, where it is missing or others may read it."""
    try:
        found = path.stat()
    except OSError as error:
        raise UsersError(f"{path} cannot be read: {error.strerror}; `waypost user add` makes it") from error
    if found.st_mode & _OTHERS:
        raise UsersError(f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}); chmod 600 {path}")
    return Stamp(found.st_ino, found.st_mtime_ns, found.st_size)


def load_users(path: Path) -> Mapping[str, User]:
    """The users by name. Raises: UsersError."""
    stamp_of(path)
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        return {name.lower(): _user(name.lower(), entry) for name, entry in document.items()}
    except OSError as error:
        raise UsersError(f"{path} cannot be read: {error.strerror}; let user {os.geteuid()} read it") from error
    except ValueError as error:
        raise UsersError(f"{path} is damaged: {error}; mend it, or restore it from a backup") from error


def _user(name: str, entry: object) -> User:
    try:
        read = msgspec.convert(entry, _Entry)
        send_as, act_as = (tuple(word.lower() for word in words) for words in (read.may_send_as, read.may_act_as))
        pinned = tuple(map(fingerprint, read.certificates))
        return User(name, read.password, Keys.parse(read.scram), send_as, act_as, pinned)
    except (msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"user {name!r}: {error}") from error


def save_users(path: Path, users: Mapping[str, User]) -> None:
    """Put these users in the file's place at once; they are on the disk when this returns. Raises: UsersError."""
    text = _HEAD + "\n".join(_written(user) for _, user in sorted(users.items()))
    try:
        put_in_place(path, text.encode())
    except OSError as error:
        raise UsersError(f"{path} cannot be written: {error.strerror}") from error


def _written(user: User) -> str:
    """A table of TOML; a JSON string is one of TOML's, too."""
    lines: dict[str, str | list[str]] = {"password": user.password, "scram": str(user.scram)}
    lines |= {"may_send_as": list(user.may_send_as)}
    lines |= {key: list(found) for key in ("may_act_as", "certificates") if (found := getattr(user, key))}
    return f"[{json.dumps(user.name)}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


@contextmanager
def changing(path: Path) -> Iterator[dict[str, User]]:
    """The users, to be changed and saved when the block ends well; nobody else changes them meanwhile.

    A missing file has no users yet. Raises: UsersError.
    """
    try:
        lock = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise UsersError(f"{path.parent} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users = dict(load_users(path)) if path.exists() else {}
        yield users
        save_users(path, users)
    finally:
        os.close(lock)

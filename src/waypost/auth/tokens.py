"""Tokens at rest: one encrypted file an authorisation, in a directory of the spool. Who copies the spool gets none.

The key is not in the spool: it comes from a file or the environment (Fernet: AES-128-CBC with HMAC-SHA-256).
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from cryptography.fernet import Fernet, InvalidToken

from waypost.auth.files import put_in_place
from waypost.auth.oauth import Tokens


class TokenStoreError(Exception):
    """The store cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Live:
    """Tokens that are good, as far as anybody knows."""

    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Dead:
    """Somebody has to log in: never done, or the authorisation has ended. `why` is a sentence."""

    why: str


Kept: TypeAlias = Live | Dead


class _Record(msgspec.Struct):
    access: str = ""
    expires_at: float = 0.0
    refresh: str = ""
    refresh_expires_at: float = 0.0
    obtained_at: float = 0.0
    dead: str = ""


#: What a file that is not there stands for.
_NO_STAMP: Final = (0, 0)


class TokenStore:
    """The files of one spool."""

    def __init__(self, directory: Path, key: bytes) -> None:
        """Raises: TokenStoreError, where `key` is none."""
        self._directory = directory
        try:
            self._cipher = Fernet(key)
        except ValueError:
            raise TokenStoreError(
                "the key for tokens is not 32 octets in base64; `waypost oauth login` makes one"
            ) from None

    def stamp(self, name: str) -> tuple[int, int]:
        """What tells one state of a file from another; costs one look at the directory."""
        try:
            found = self._path(name).stat()
        except OSError:
            return _NO_STAMP
        return found.st_ino, found.st_mtime_ns

    def load(self, name: str) -> Kept:
        """What is kept of an authorisation. Raises: TokenStoreError."""
        path = self._path(name)
        try:
            record = msgspec.json.decode(self._cipher.decrypt(path.read_bytes()), type=_Record)
        except FileNotFoundError:
            return Dead("nobody has logged in yet")
        except InvalidToken:
            raise TokenStoreError(f"{path} was encrypted with another key; restore the key, or log in anew") from None
        except (OSError, msgspec.DecodeError) as error:
            raise TokenStoreError(f"{path} cannot be read: {error}") from error
        if record.dead:
            return Dead(record.dead)
        values = msgspec.structs.asdict(record)
        del values["dead"]
        return Live(Tokens(**values))

    def save(self, name: str, kept: Kept) -> None:
        """Keep this instead. Raises: TokenStoreError."""
        record = _Record(dead=kept.why) if isinstance(kept, Dead) else _Record(**asdict(kept.tokens))
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            put_in_place(self._path(name), self._cipher.encrypt(msgspec.json.encode(record)))
        except OSError as error:
            raise TokenStoreError(f"{self._path(name)} cannot be written: {error.strerror}") from error

    def sealed(self, name: str) -> tuple[int, bytes]:
        """What is kept, as it is at rest, and since when (nanoseconds); (0, b""): nothing."""
        path = self._path(name)
        try:
            return path.stat().st_mtime_ns, path.read_bytes()
        except OSError:
            return 0, b""

    def put(self, name: str, since: int, sealed: bytes) -> None:
        """Keep what another process of the queue has at rest, since then. Raises: TokenStoreError."""
        path = self._path(name)
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            put_in_place(path, sealed)
            os.utime(path, ns=(since, since))
        except OSError as error:
            raise TokenStoreError(f"{path} cannot be written: {error.strerror}") from error

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.token"


def key_in(file: Path, *, make: bool = False) -> bytes:
    """The key in a file of mode 0600; `make`: a new one where there is none. Raises: TokenStoreError."""
    try:
        if make and not file.exists():
            put_in_place(file, Fernet.generate_key() + b"\n")
        if file.stat().st_mode & 0o077:
            raise TokenStoreError(f"{file} is open to others; chmod 600 {file}")
        return file.read_bytes().strip()
    except FileNotFoundError:
        raise TokenStoreError(f"{file} is not there; `waypost oauth login` makes it") from None
    except OSError as error:
        raise TokenStoreError(f"{file} cannot be read: {error.strerror}; let user {os.geteuid()} read it") from error

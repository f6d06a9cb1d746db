"""The server's side of SASL mechanisms, without I/O: responses in, steps out (RFC 4422).

An exchange that needs a password or a token judged says so in a step; whoever runs it (authenticator.py) finds out and
decides. Here: PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login-00) and EXTERNAL (RFC 4422 app. A). SCRAM is in
scram.py, tokens in bearer.py. `acting_as`: the account whose rights are asked for, "" for the one that is proven.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol, TypeAlias

from waypost.smtp.command import NoResponse

#: Octets of a user name or a password: far above any person's, and hashing a megabyte is an attack.
LONGEST: Final = 1024


@dataclass(frozen=True, slots=True)
class Challenge:
    """To be said; a response follows."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class CheckPassword:
    """Whether `password` is that of `username`; shown by no repr."""

    username: str
    password: str
    acting_as: str = ""

    def __repr__(self) -> str:
        return f"CheckPassword({self.username!r}, …)"


@dataclass(frozen=True, slots=True)
class CheckToken:
    """Whether `token` was issued to `username` ("" where the client named nobody); shown by no repr."""

    username: str
    token: str

    def __repr__(self) -> str:
        return f"CheckToken({self.username!r}, …)"


@dataclass(frozen=True, slots=True)
class CheckCertificate:
    """Whose certificate the client has shown in the TLS handshake."""

    acting_as: str


@dataclass(frozen=True, slots=True)
class Proven:
    """The mechanism itself has shown that the client is `username`."""

    username: str
    acting_as: str = ""


class Flaw(Enum):
    """Why an exchange failed of itself."""

    MALFORMED = auto()  # not what the mechanism says: the client's program
    WRONG = auto()  # a proof that does not hold


@dataclass(frozen=True, slots=True)
class Failed:
    """It is over. `username`: whom it was about, "" where it did not come so far; `why` is for the log."""

    flaw: Flaw
    username: str
    why: str


Step: TypeAlias = Challenge | CheckPassword | CheckToken | CheckCertificate | Proven | Failed


class Exchange(Protocol):
    """One AUTH under way."""

    def begin(self, response: bytes | NoResponse) -> Step:
        """The first step, with the initial response where there was one."""
        ...

    def take(self, response: bytes) -> Step:
        """The step after a challenge. Never raises: octets come from anybody."""
        ...

    def refused(self, username: str, why: str) -> Step:
        """What is still to be said once a CheckPassword or CheckToken was refused; as a rule nothing."""
        ...


def text_of(octets: bytes) -> str:
    """A user name or password as text. Raises: ValueError, where it is none, empty, too long, or holds a NUL."""
    text = octets.decode()
    if not 1 <= len(octets) <= LONGEST or "\0" in text:
        raise ValueError("empty, too long, or with a NUL")
    return text


def malformed(why: str) -> Failed:
    """The end of an exchange whose client does not keep to the mechanism."""
    return Failed(Flaw.MALFORMED, "", why)


class Plain:
    """PLAIN: [authorization identity] NUL user name NUL password."""

    def begin(self, response: bytes | NoResponse) -> Step:
        return Challenge(b"") if isinstance(response, NoResponse) else self.take(response)

    def take(self, response: bytes) -> Step:
        identity, *rest = response.split(b"\0")
        try:
            username, password = map(text_of, rest)
            acting_as = text_of(identity) if identity else ""
        except ValueError as error:
            return malformed(f"PLAIN: {error}")
        return CheckPassword(username, password, acting_as)

    def refused(self, username: str, why: str) -> Step:
        return Failed(Flaw.WRONG, username, why)


class External:
    """EXTERNAL: the account to act as, or nothing; who the client is, TLS has shown."""

    def begin(self, response: bytes | NoResponse) -> Step:
        return Challenge(b"") if isinstance(response, NoResponse) else self.take(response)

    def take(self, response: bytes) -> Step:
        try:
            return CheckCertificate(text_of(response) if response else "")
        except ValueError as error:
            return malformed(f"EXTERNAL: {error}")

    def refused(self, username: str, why: str) -> Step:
        return Failed(Flaw.WRONG, username, why)


class Login:
    """LOGIN: the user name, then the password. The challenges are the words that clients look for."""

    def __init__(self) -> None:
        self._username = ""

    def begin(self, response: bytes | NoResponse) -> Step:
        return Challenge(b"Username:") if isinstance(response, NoResponse) else self.take(response)

    def take(self, response: bytes) -> Step:
        try:
            text = text_of(response)
        except ValueError as error:
            return malformed(f"LOGIN: {error}")
        if self._username:
            return CheckPassword(self._username, text)
        self._username = text
        return Challenge(b"Password:")

    def refused(self, username: str, why: str) -> Step:
        return Failed(Flaw.WRONG, username, why)

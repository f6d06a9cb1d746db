"""How a client shows who it is: credentials, the mechanisms they can be shown by, and the dialogue of AUTH (RFC 4954).

Not here: mechanisms that need more than base64 (auth/client.py), when AUTH is due (client.py), and which server gets
which credentials (config/).
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from waypost.smtp.command import NoResponse
from waypost.smtp.extension import Extensions
from waypost.smtp.reply import Reply

#: Octets of AUTH with its initial response, without CRLF (RFC 5321 §4.5.3.1.4): a longer one waits to be asked for.
AUTH_COMMAND: Final = 510


@dataclass(frozen=True, slots=True)
class Credentials:
    """For AUTH; never shown by repr, so never logged.

    `oauth`: the name of the authorisation that gives an access token in the password's place; "" for a password.
    `external`: by neither, but by the certificate that we show under TLS. `act_as`: whose rights we ask for; "" ours.
    """

    username: str
    password: str
    oauth: str = ""
    external: bool = False
    act_as: str = ""

    def __repr__(self) -> str:
        return "Credentials(…)"


@dataclass(frozen=True, slots=True)
class NoCredentials:
    """The route does not authenticate."""


NO_CREDENTIALS: Final = NoCredentials()


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A challenge that a mechanism has no answer to: "*" is said (RFC 4954 §4)."""


class ClientExchange(Protocol):
    """Our side of one SASL mechanism, without I/O. Used for one AUTH."""

    def begin(self) -> bytes | NoResponse:
        """The initial response, or that the server speaks first."""
        ...

    def answer(self, challenge: bytes) -> bytes | GiveUp:
        """The response to a challenge. Never raises: a server may say anything."""
        ...

    @property
    def is_satisfied(self) -> bool:
        """Whether a 235 may be believed: the server has proven itself, where the mechanism has it do so."""
        ...


class Spoken:
    """A mechanism whose responses are known beforehand. `first`: whether the first of them begins it."""

    is_satisfied = True

    def __init__(self, *responses: str, first: bool) -> None:
        self._responses = deque(response.encode() for response in responses)
        self._first = first

    def begin(self) -> bytes | NoResponse:
        return self._responses.popleft() if self._first else NoResponse()

    def answer(self, challenge: bytes) -> bytes | GiveUp:  # noqa: ARG002 - whatever it says
        return self._responses.popleft() if self._responses else GiveUp()


#: What credentials can be shown by: mechanisms in order of preference, each made anew for each AUTH.
Mechanisms: TypeAlias = Mapping[str, Callable[[], ClientExchange]]


def by_password(credentials: Credentials) -> Mechanisms:
    """The mechanisms that need nothing but base64: PLAIN (RFC 4616) and LOGIN. For others see waypost.auth.client."""
    username, password, act_as = credentials.username, credentials.password, credentials.act_as
    plain: Mechanisms = {"PLAIN": lambda: Spoken(f"{act_as}\0{username}\0{password}", first=True)}
    return plain if act_as else {**plain, "LOGIN": lambda: Spoken(username, password, first=False)}


#: What says no to a mechanism, not to us: unknown, too weak, or good only once the password was said (RFC 4954 §6).
_UNFIT: Final = {504, 534, 432}
#: A client's word that it gives up (RFC 4954 §4); never base64.
CANCEL: Final = "*"


class Login:
    """One AUTH with one server: by its first mechanism, and where that is unfit by the next."""

    def __init__(self, mechanisms: Mechanisms, offered: Extensions) -> None:
        """`mechanisms` of ours, in order of preference; those that are not `offered` are left out."""
        self._left = deque((name, mechanisms[name]) for name in mechanisms if name in offered.auth_mechanisms)
        self._exchange: ClientExchange = Spoken(first=False)
        self._late: bytes | NoResponse = NoResponse()  # an initial response too long for the command
        self.mechanism = ""  # being tried

    @property
    def can_go_on(self) -> bool:
        """Whether there is a mechanism to be tried, or another one."""
        return bool(self._left)

    @property
    def is_satisfied(self) -> bool:
        """Whether a 235 may be believed."""
        return self._exchange.is_satisfied

    def command(self) -> str:
        """The command that tries the next mechanism."""
        self.mechanism, make = self._left.popleft()
        self._exchange = make()
        first = self._exchange.begin()
        self._late = NoResponse()
        if isinstance(first, NoResponse):
            return f"AUTH {self.mechanism}"
        line = f"AUTH {self.mechanism} {_base64(first) or '='}"
        if len(line) <= AUTH_COMMAND:
            return line
        self._late = first
        return f"AUTH {self.mechanism}"

    def response(self, challenge: Reply) -> str:
        """The answer to a 334, or `CANCEL`."""
        late, self._late = self._late, NoResponse()
        response = late if not isinstance(late, NoResponse) else self._answer(challenge)
        return CANCEL if isinstance(response, GiveUp) else _base64(response)

    def _answer(self, challenge: Reply) -> bytes | GiveUp:
        try:
            return self._exchange.answer(b64decode("".join(challenge.lines).strip(), validate=True))
        except ValueError:
            return GiveUp()

    def goes_on_after(self, reply: Reply) -> bool:
        """Whether `reply` refuses the mechanism, says nothing of the credentials, and another one is left."""
        if reply.code == 432:  # a password that has to be said once, so that the server can keep what it needs of it
            while self._left and self._left[0][0] != "PLAIN":
                self._left.popleft()
        # With -PLUS the two may not agree on what binds the channel: that is no word on the password.
        unfit = reply.code in _UNFIT or (reply.is_permanent and self.mechanism.endswith("-PLUS"))
        return unfit and self.can_go_on


def _base64(octets: bytes) -> str:
    return b64encode(octets).decode()

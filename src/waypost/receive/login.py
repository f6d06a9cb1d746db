"""The login of one session: which mechanisms are safe on its connection, the exchange under way, and who it is.

Not here: the command and its order (waypost.smtp.server), or whether a password is right (waypost.auth).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, assert_never

from waypost.auth.account import Account
from waypost.auth.authenticator import WELCOME, Accepted, Dialogue, Judgement, NotKnown, Refused
from waypost.auth.exchange import Challenge
from waypost.auth.scram import NO_BINDINGS, PLUS, Bindings
from waypost.mail.envelope import MessageId
from waypost.net.binding import bindings_of
from waypost.net.stream import Endpoint, is_local
from waypost.net.tls import TlsFacts, TlsState
from waypost.receive.ports import ReceiveLog
from waypost.smtp.command import Auth
from waypost.smtp.event import AuthResponse
from waypost.smtp.reply import Reply


class Logins(Protocol):
    """Who judges logins (waypost.auth.authenticator.Authenticator)."""

    def dialogue(
        self, mechanism: str, network: str, bindings: Bindings = NO_BINDINGS, certificate: bytes = b""
    ) -> Dialogue:
        """An exchange with a client of `network`, who has shown that verified `certificate`, or b"" for none."""
        ...

    async def vouched(self, username: str) -> Judgement:
        """The account of somebody whom a trusted client has authenticated."""
        ...


class NoLogins:
    """Nobody: no door offers a mechanism."""

    def dialogue(
        self,
        mechanism: str,
        network: str,  # noqa: ARG002 - nobody is asked
        bindings: Bindings = NO_BINDINGS,  # noqa: ARG002
        certificate: bytes = b"",  # noqa: ARG002
    ) -> Dialogue:
        raise ValueError(f"{mechanism} was never offered")

    async def vouched(self, username: str) -> Judgement:  # noqa: ARG002 - there are none
        return NotKnown("there are no accounts")


NO_LOGINS: Final = NoLogins()


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Nobody has authenticated."""

    name: str = ""


ANONYMOUS: Final = Anonymous()
Client: TypeAlias = Account | Anonymous


_ANY: Final = MessageId("")


@dataclass(frozen=True, slots=True)
class Guest:
    """Who comes by another way than SMTP (intake.py), and was recognised there.

    `id`: what his message is called; `traceparent`: the trace context that he said beside it.
    """

    client: Client = ANONYMOUS
    id: MessageId = _ANY
    traceparent: str = ""


#: Whoever connects: nobody knows him, and his messages get new names.
STRANGER: Final = Guest()


class Login:
    """One session's. `client` is whom it has shown itself to be."""

    def __init__(
        self, mechanisms: tuple[str, ...], logins: Logins, log: ReceiveLog, peer: Endpoint, network: str
    ) -> None:
        """`mechanisms`: those of the door; `network`: what failures are counted by."""
        self.client: Client = ANONYMOUS
        self._mechanisms = mechanisms
        self._logins = logins
        self._log = log
        self._peer = peer
        self._network = network
        self._bindings = NO_BINDINGS
        self._certificate = b""

    def permitted(self, tls: TlsState) -> tuple[str, ...]:
        """The mechanisms that are safe now: none in clear, unless the client is on this machine."""
        if not self._mechanisms or not (isinstance(tls, TlsFacts) or is_local(self._peer)):
            return ()
        self._bindings = bindings_of(tls)
        self._certificate = tls.certificates[0] if isinstance(tls, TlsFacts) and tls.certificates else b""
        needed = {PLUS: bool(self._bindings), "EXTERNAL": bool(self._certificate)}
        return tuple(name for name in self._mechanisms if needed.get(name, True))

    async def answer(self, event: Auth | AuthResponse) -> Challenge | Reply:
        """What is to be said to the client's next word. Never raises what waypost.auth does not."""
        if isinstance(event, Auth):
            # A client that thinks that there is no channel binding is told the truth only where -PLUS was offered.
            bindings = self._bindings if PLUS in self._mechanisms else NO_BINDINGS
            self._dialogue = self._logins.dialogue(event.mechanism, self._network, bindings, self._certificate)
            verdict = await self._dialogue.begin(event.response)
        else:
            verdict = await self._dialogue.take(event.octets)
        match verdict:
            case Challenge():
                return verdict
            case Accepted(account, by):
                self.client = account
                how = f"{self._dialogue.mechanism}, by {by}" if by else self._dialogue.mechanism
                self._log.logged_in(self._peer, account.name, how)
                return WELCOME
            case Refused(reply, username, why):
                self._log.login_refused(self._peer, username, self._dialogue.mechanism, why, reply)
                return reply
            case _:
                assert_never(verdict)

"""Who is at the other end of a session: where from, what it said of itself, whom it showed itself to be.

What the rules ask of a client they find here. Not here: its mail (transactions.py), or what it says (session.py).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from waypost.hooks.values import Client as HookClient
from waypost.net.stream import Endpoint, Stream
from waypost.net.tls import TlsFacts, TlsState
from waypost.policy.gate import Visitor
from waypost.receive.house import House
from waypost.receive.login import Anonymous, Guest, Login
from waypost.receive.settings import Door, Relaying, client_key
from waypost.smtp.command import Hello
from waypost.smtp.path import ForwardPath
from waypost.smtp.reply import Reply

#: What a log raises: it costs no mail, and there is nobody else to tell.
_UNHEARD: Final = suppress(Exception)


class ConnectedClient:
    """One client on its connection. `hello`, `tls` and `login` are what they are now: each may change."""

    def __init__(self, stream: Stream, door: Door, house: House, guest: Guest, tls: TlsState) -> None:
        """`tls`: what protects the connection already: a proxy's handshake, or one that we made as a client (ATRN)."""
        self.stream = stream
        self.peer = stream.peer  # where it comes from, as a proxy or XCLIENT says where there is one
        self.door = door
        self.house = house
        self.hooked = house.hooked
        self.guest = guest
        self.tls: TlsState = tls
        self.hello = Hello("HELO", "")
        self._trust: tuple[bool, ...] = ()  # asked once, where it matters
        self.login = self._anonymous()

    @property
    def account(self) -> str:
        """Whom it has shown itself to be; "" for nobody."""
        return self.login.client.name

    @property
    def tls_words(self) -> str:
        """What protects the connection, in words; "" where nothing does."""
        return str(self.tls) if isinstance(self.tls, TlsFacts) else ""

    def begin_anew(self) -> tuple[str, ...]:
        """Nobody has said or shown anything on the connection as it is now. The AUTH mechanisms that are safe on it."""
        self._trust, self.hello = (), Hello("HELO", "")
        self.login = self._anonymous()
        return self.login.permitted(self.tls)

    def stand_for(self, peer: Endpoint) -> None:
        """Be taken for who comes from there."""
        self.stream.stand_for(peer, b"")
        self.peer = self.stream.peer

    def _anonymous(self) -> Login:
        house = self.house
        login = Login(self.door.smtp.mechanisms, house.logins, house.log, self.peer, client_key(self.peer.host))
        login.client = self.guest.client
        return login

    def adopt(self, house: House) -> None:
        """Be judged by these rules from now on."""
        self.house = house
        self._trust = ()

    def as_client(self) -> HookClient:
        """The client, as hooks know him."""
        return HookClient(self.peer.host, self.hello.client_name, self.account, self.tls_words, self.door.name)

    def visitor(self) -> Visitor:
        """The client, as the gate knows him."""
        return Visitor(self.peer.host, self.hello.client_name, self.account, trusted=self.trusted())

    def trusted(self) -> bool:
        """Whether this client may relay: by its account, else by where it comes from or what it connected to."""
        relay, host, relaying = self.house.relay, self.peer.host, self.door.relaying
        if relaying is not Relaying.AS_LISTED:
            return relaying is Relaying.ALWAYS and not relay.bars(host)
        if not isinstance(self.login.client, Anonymous):
            return not relay.bars(host)
        if not self._trust:
            self._trust = (relay.trusts(host),)
        return self._trust[0]

    # ---- what is told of it
    def trouble(self, what: str, error: Exception) -> None:
        """An error of ours, while this client was served."""
        with _UNHEARD:
            self.house.log.trouble(self.peer, what, error)

    def undecided(self, path: ForwardPath, trouble: str) -> None:
        """What somebody has to mend, so that this recipient can be reached."""
        if trouble:
            with _UNHEARD:
                self.house.log.undecided(self.peer, str(path), trouble)

    def refuse(self, line: str, reply: Reply) -> Reply:
        """The reply, told of."""
        with _UNHEARD:
            self.house.log.refused(self.peer, line, reply)
        return reply

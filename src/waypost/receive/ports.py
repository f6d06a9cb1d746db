"""What receiving needs of the parts it must not import: where its news and its leases go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from waypost.mail.envelope import Envelope, MessageId
from waypost.net.stream import Endpoint, Fault
from waypost.net.tls import TlsFacts
from waypost.queue.storage import Lease
from waypost.smtp.reply import Reply


class ReceiveLog(Protocol):
    """Told of what happens, for log lines and counters. Must not block; what it raises is lost, never mail."""

    def connected(self, client: Endpoint, door: str) -> None:
        """A client is greeted."""
        ...

    def handshake(self, client: Endpoint, door: str, result: TlsFacts | Fault) -> None:
        """A TLS handshake has ended, well or not."""
        ...

    def refused(self, client: Endpoint, line: str, reply: Reply) -> None:
        """A command (or "final dot") was answered 4yz or 5yz. `line`: an excerpt, free of control characters."""
        ...

    def logged_in(self, client: Endpoint, account: str, mechanism: str) -> None:
        """A client has shown that it is this account's."""
        ...

    def login_refused(self, client: Endpoint, username: str, mechanism: str, why: str, reply: Reply) -> None:
        """A client has not. `username`: whom it claimed to be; neither it nor `why` holds a secret."""
        ...

    def accepted(self, client: Endpoint, id: MessageId, envelope: Envelope, size: int) -> None:  # noqa: A002
        """A message is durable, and the client is about to be told."""
        ...

    def resent(self, client: Endpoint, id: MessageId) -> None:  # noqa: A002
        """A client sent a message again that it had not heard of being taken; it is kept once."""
        ...

    def trouble(self, client: Endpoint, what: str, error: Exception) -> None:
        """An error of ours; the client was answered 4yz."""
        ...

    def undecided(self, client: Endpoint, recipient: str, trouble: str) -> None:
        """What an administrator must mend, so that this recipient (or all an alias names) can be reached."""
        ...

    def ended(self, client: Endpoint, reason: str, messages: int) -> None:
        """The session is over. `messages`: how many it brought."""
        ...


class NoLog:
    """Tells nobody."""

    def connected(self, client: Endpoint, door: str) -> None:
        pass

    def handshake(self, client: Endpoint, door: str, result: TlsFacts | Fault) -> None:
        pass

    def refused(self, client: Endpoint, line: str, reply: Reply) -> None:
        pass

    def logged_in(self, client: Endpoint, account: str, mechanism: str) -> None:
        pass

    def login_refused(self, client: Endpoint, username: str, mechanism: str, why: str, reply: Reply) -> None:
        pass

    def accepted(self, client: Endpoint, id: MessageId, envelope: Envelope, size: int) -> None:  # noqa: A002
        pass

    def resent(self, client: Endpoint, id: MessageId) -> None:  # noqa: A002
        pass

    def trouble(self, client: Endpoint, what: str, error: Exception) -> None:
        pass

    def undecided(self, client: Endpoint, recipient: str, trouble: str) -> None:
        pass

    def ended(self, client: Endpoint, reason: str, messages: int) -> None:
        pass


class Space(Protocol):
    """Whether there is room for new mail. Asked at every MAIL: must cost nothing."""

    @property
    def is_low(self) -> bool:
        """Whether new mail is to be refused."""
        ...

    @property
    def gone(self) -> str:
        """Why what is stored now would be lost; empty: it is stored where the next start finds it."""
        ...


class Boundless:
    """There is always room."""

    is_low = False
    gone = ""


BOUNDLESS: Final = Boundless()


class Onward(Protocol):
    """Who delivers a message just stored without reading it from the queue again, while there is room."""

    def wants(self) -> bool:
        """Whether a lease handed over now would be tried at once."""
        ...

    def take(self, leases: Sequence[Lease]) -> None:
        """Leases of one message; from here on they are the taker's."""
        ...


class NobodyOnward:
    """Everything waits in the queue."""

    def wants(self) -> bool:
        return False

    def take(self, leases: Sequence[Lease]) -> None:
        pass


class Traced(Protocol):
    """Whether messages are spans of a trace."""

    @property
    def is_on(self) -> bool: ...

    def begin(self, parent: str) -> str:
        """The `traceparent` of a message that is about to be stored, below that of its client ("": it has none)."""
        ...


class Untraced:
    """They keep what their client said."""

    is_on: Final = False

    def begin(self, parent: str) -> str:
        return parent


UNTRACED: Final = Untraced()

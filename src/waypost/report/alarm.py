"""The postmaster is told that somebody has to do something, by a message of our own in the queue.

It goes the way of its recipient's route, so never by the route it is about: config/ sees to that. Told once for each
thing that happens; what cannot be told stands in the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from waypost.mail.dkim import Signing, unsigned
from waypost.mail.envelope import Envelope, InMemory, Origin, Recipient
from waypost.mail.header import field
from waypost.mail.trace import date
from waypost.net.clock import Clock
from waypost.queue.ids import MessageIds
from waypost.queue.storage import Storage, StorageError, Stored
from waypost.report.reporter import Routes
from waypost.route.route import NoRoute
from waypost.smtp.path import Mailbox, NullPath


class AlarmLog(Protocol):
    """Who hears of alarms; journal.py is one."""

    def alarm_sent(self, what: str, recipient: str, id: str) -> None:  # noqa: A002 - the field's own name
        """A message about `what` is queued."""
        ...

    def report_trouble(self, doing: str, error: Exception) -> None:
        """It could not be."""
        ...


@dataclass(frozen=True, slots=True)
class AuthorisationAlarm:
    """Tells of OAuth authorisations that have ended. `recipients`: by authorisation; the others go to `postmaster`."""

    storage: Storage
    routes: Routes
    clock: Clock
    ids: MessageIds
    log: AlarmLog
    hostname: str
    postmaster: Mailbox
    recipients: Mapping[str, Mailbox]
    sign: Signing = unsigned

    async def tell(self, name: str, why: str) -> None:
        """File the message. Never raises."""
        recipient = self.recipients.get(name, self.postmaster)
        route = self.routes.route(recipient)
        if isinstance(route, NoRoute):
            self.log.report_trouble(f"telling {recipient} of the authorisation {name}", LookupError(route.detail))
            return
        message_id, now = self.ids.make(), self.clock.now()
        octets = self.sign(self._letter(name, why, recipient, f"<{message_id}@{self.hostname}>", now))
        envelope = Envelope(NullPath(), (Recipient(recipient, route.next_hop),), Origin("local"))
        try:
            stored = await self.storage.accept(envelope, InMemory(octets), id=message_id, now=now, claim_until=now)
        except StorageError as error:
            self.log.report_trouble(f"telling {recipient} of the authorisation {name}", error)
            return
        if isinstance(stored, Stored):
            self.log.alarm_sent(f"authorisation {name}", str(recipient), message_id)
        else:
            self.log.report_trouble(f"telling {recipient} of the authorisation {name}", StorageError(stored))

    def _letter(self, name: str, why: str, recipient: Mailbox, message_id: str, now: float) -> bytes:
        header = b"".join(
            field(key, value)
            for key, value in (
                ("From", f"Waypost at {self.hostname} <{self.postmaster}>"),
                ("To", f"<{recipient}>"),
                ("Subject", f"Mail is held: the authorisation {name} has ended"),
                ("Date", date(int(now))),
                ("Message-ID", message_id),
                ("Auto-Submitted", "auto-generated"),
                ("MIME-Version", "1.0"),
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Content-Transfer-Encoding", "8bit"),
            )
        )
        body = (
            f"The OAuth authorisation {name} of {self.hostname} has ended:\r\n\r\n    {_one_line(why)}\r\n\r\n"
            "Mail that needs it is held. Nothing is lost and nothing comes back to its authors; it waits until\r\n"
            f"somebody logs in:\r\n\r\n    waypost oauth login {name}\r\n\r\nThen it flows again by itself.\r\n"
        )
        return header + b"\r\n" + body.encode("utf-8", "backslashreplace")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:900]

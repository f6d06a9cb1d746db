"""What a server and one client have agreed on so far: the state, what is on offer, who the client is, its transaction.

A command is judged by it (request.py), and the caller's answer to a request changes it. What is of the connection
(octets, and what is read off them) is the session's (server.py); which command may come when is the table's (order.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from waypost.smtp.command import XCLIENT_ATTRIBUTES, Atrn, Auth, Etrn, Hello, Mail, Rcpt, Xclient
from waypost.smtp.event import AuthResponse, DataEnd, DataStart, Request, StartTls
from waypost.smtp.extension import BodyType, Extensions, MailParameters, extension_lines
from waypost.smtp.order import ORDER_UNDER_TLS, State, order_table
from waypost.smtp.path import Mailbox
from waypost.smtp.reply import Reply
from waypost.smtp.settings import ServerSettings


class Agreement:
    """Of one session. Read by whoever judges a command; changed here, but for the state: the session moves it too."""

    def __init__(self, settings: ServerSettings, *, secured: bool) -> None:
        """`secured`: the connection is under TLS from its first octet."""
        self.settings = settings
        self.state = State.NEW
        self.order = order_table(settings, secured=secured)
        self.offers = settings.offers_under_tls if secured else settings.offers
        self.mechanisms: tuple[str, ...] = ()  # of AUTH, on offer now
        self.takes_xclient = False
        self.heard_auth = False
        self.is_authenticated = False
        self._secured = secured
        # of the transaction:
        self.recipients = 0  # accepted
        self.domains: set[str] = set()  # theirs, where they are limited
        self.prdr = False
        self.utf8 = False
        self.binary = False

    # ---- what is on offer

    def offer_auth(self, mechanisms: Sequence[str]) -> None:
        """With these mechanisms; none of them takes the offer back."""
        self.mechanisms = tuple(mechanisms)
        self._offer()

    def offer_xclient(self) -> None:
        """For good."""
        self.takes_xclient = True
        self._offer()

    def _offer(self) -> None:
        base = self.settings.offers_under_tls if self._secured else self.settings.offers
        own: dict[str, tuple[str, ...]] = {"AUTH": self.mechanisms} if self.mechanisms else {}
        if self.mechanisms and self.settings.atrn:
            own["ATRN"] = ()
        if self.takes_xclient:
            own["XCLIENT"] = XCLIENT_ATTRIBUTES
        self.offers = Extensions({**base.offered, **own}) if own else base

    def ehlo_reply(self, now: float) -> Reply:
        """The 250 to EHLO and LHLO at `now`, in seconds since 1970."""
        settings = self.settings
        if settings.future_release:
            offered = settings.with_latest_release(self.offers, now)
            return Reply(250, (settings.hostname, *extension_lines(offered)))
        if self.mechanisms or self.takes_xclient:
            return Reply(250, (settings.hostname, *extension_lines(self.offers)))
        return settings.ehlo_reply_under_tls if self._secured else settings.ehlo_reply

    # ---- what changes it

    def start_tls(self) -> None:
        """The handshake is done: all that was said before it is forgotten (RFC 3207 §4.2), EHLO is due again."""
        self._secured = True
        self.order = ORDER_UNDER_TLS
        self.is_authenticated = False
        self.offer_auth(())
        self.state = State.CONNECTED

    def settle(self, event: Request, reply: Reply) -> bool:
        """Take the caller's answer to `event`, any but 421; tells whether this has brought no message nearer."""
        accepted = reply.code < 300
        match event:
            case Hello():
                return accepted and self._begin_anew()
            case Auth() | AuthResponse():
                self.state = State.READY
                self.is_authenticated = accepted
            case Etrn():
                return True
            case Atrn() if accepted:
                self.state = State.TURNED
            case Xclient() if accepted:
                self.state = State.CONNECTED
                self.is_authenticated = False
                return True
            case StartTls() if accepted:
                self.state = State.HANDSHAKE
            case Mail() if accepted:
                self._open(event.parameters)
            case Rcpt() if accepted:
                self._add(event)
            case DataStart() if reply.is_intermediate:
                self.state = State.BODY
            case DataEnd():
                self.state = State.READY
            case Atrn() | Xclient() | StartTls() | Mail() | Rcpt() | DataStart():
                pass  # refused: all stays as it is
            case _:
                assert_never(event)
        return False

    def _begin_anew(self) -> bool:
        again = self.state is not State.CONNECTED
        self.state = State.READY
        return again

    def _open(self, parameters: MailParameters) -> None:
        self.state = State.MAIL
        self.recipients = 0
        self.domains = set()
        self.prdr = parameters.prdr
        self.utf8 = parameters.smtputf8
        self.binary = parameters.body is BodyType.BINARY_MIME

    def _add(self, rcpt: Rcpt) -> None:
        self.state = State.RCPT
        self.recipients += 1
        if self.settings.max_recipient_domains:
            self.domains.add(domain_of(rcpt))


def domain_of(rcpt: Rcpt) -> str:
    """In lower case; "" for the bare Postmaster."""
    path = rcpt.forward_path
    return str(path.domain).lower() if isinstance(path, Mailbox) else ""

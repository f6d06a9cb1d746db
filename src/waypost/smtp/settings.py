"""What a listener offers and allows, and what follows from that once and for all: what EHLO is answered with.

Not here: what is on offer to one client beside (AUTH, XCLIENT: agreement.py), and where the settings are read from
(config/).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from waypost.smtp.extension import Extensions, extension_lines
from waypost.smtp.reply import Reply


@dataclass(frozen=True)  # no slots: what follows from the settings is kept beside them
class ServerSettings:
    """What a listener offers and allows.

    `size_limit` in octets, 0 for none (RFC 1870 §4). `max_recipients` a transaction: RFC 5321 §4.5.3.1.8 asks for at
    least 100. `max_errors`: refusals by the session itself before it ends with 421; 20 is what others in the field use.
    `mechanisms`: those of AUTH, in upper case; offered only once `permit_auth` says that secrets are safe.
    `starttls`: it is on offer, there being a certificate. `tls_required`: no mail in clear. `future_release`: how long
    a message may be held at its author's wish (RFC 4865); none: not offered. `max_messages` a session (RFC 9422), and
    `max_recipient_domains` a transaction, 0 for any number. `atrn`: some account has mail to be called for (RFC 2645).
    """

    hostname: str
    size_limit: int = 50 * 1024 * 1024
    lmtp: bool = False
    smtputf8: bool = True
    dsn: bool = True
    chunking: bool = True
    priority: bool = True
    future_release: timedelta = timedelta()
    max_messages: int = 1000
    max_recipient_domains: int = 0
    deliver_by: bool = True
    prdr: bool = True
    etrn: bool = False
    atrn: bool = False
    max_recipients: int = 1000
    max_errors: int = 20
    mechanisms: tuple[str, ...] = ()
    starttls: bool = False
    tls_required: bool = False

    # What follows from these: made once a listener, not once a session.

    @cached_property
    def offers(self) -> Extensions:
        """The extensions on offer to EHLO and LHLO in clear."""
        return Extensions({**self._offers, "STARTTLS": ()} if self.starttls else self._offers)

    @cached_property
    def offers_under_tls(self) -> Extensions:
        """The extensions on offer under TLS: no STARTTLS (RFC 3207 §4.2), but REQUIRETLS (RFC 8689 §2)."""
        return Extensions({**self._offers, "REQUIRETLS": ()})

    def with_latest_release(self, offered: Extensions, now: float) -> Extensions:
        """What is on offer, FUTURERELEASE with the latest time it allows from `now` on (RFC 4865 §3)."""
        seconds = int(self.future_release.total_seconds())
        latest = datetime.fromtimestamp(now + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Extensions({**offered.offered, "FUTURERELEASE": (str(seconds), latest)})

    @cached_property
    def _offers(self) -> dict[str, tuple[str, ...]]:
        offered: dict[str, tuple[str, ...]] = {"PIPELINING": (), "SIZE": (str(self.size_limit),), "8BITMIME": ()}
        offered["ENHANCEDSTATUSCODES"] = ()
        if self.chunking:
            offered |= {"CHUNKING": (), "BINARYMIME": ()}
        domains = (f"RCPTDOMAINMAX={self.max_recipient_domains}",) if self.max_recipient_domains else ()
        offered["LIMITS"] = (f"MAILMAX={self.max_messages}", f"RCPTMAX={self.max_recipients}", *domains)
        if self.deliver_by:
            offered["DELIVERBY"] = ()
        if self.prdr and not self.lmtp:  # LMTP answers each recipient as it is
            offered["PRDR"] = ()
        if self.priority:
            offered["MT-PRIORITY"] = ()
        if self.etrn:
            offered["ETRN"] = ()
        if self.future_release:
            offered["FUTURERELEASE"] = (str(int(self.future_release.total_seconds())),)
        if self.smtputf8:
            offered["SMTPUTF8"] = ()
        if self.dsn:
            offered["DSN"] = ()
        return offered

    @cached_property
    def ehlo_reply(self) -> Reply:
        """The 250 to EHLO and LHLO in clear. No enhanced status: RFC 2034 §4 exempts it, and the next two."""
        return Reply(250, (self.hostname, *extension_lines(self.offers)))

    @cached_property
    def ehlo_reply_under_tls(self) -> Reply:
        """The 250 to EHLO and LHLO under TLS."""
        return Reply(250, (self.hostname, *extension_lines(self.offers_under_tls)))

    @cached_property
    def helo_reply(self) -> Reply:
        """The 250 to HELO, which knows of no extension."""
        return Reply(250, (self.hostname,))

    @cached_property
    def goodbye(self) -> Reply:
        """The 221 to QUIT."""
        return Reply.of(221, "2.0.0", f"{self.hostname} goodbye")

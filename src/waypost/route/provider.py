"""A provider that keeps our mail until we call for it. A value; deliver/fetch.py makes the calls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from waypost.route.route import SmtpServers, TlsPolicy
from waypost.smtp.login import Credentials, NoCredentials


@dataclass(frozen=True, slots=True)
class Provider:
    """Where our mail is kept. `by_atrn`: over our own connection; else it is sent to us as by any client (ETRN).

    `domains`: whose mail; by ATRN none stands for all that the account has.
    """

    name: str
    servers: SmtpServers
    by_atrn: bool
    domains: tuple[str, ...]
    every: timedelta
    tls: TlsPolicy
    credentials: Credentials | NoCredentials

    @property
    def commands(self) -> tuple[str, ...]:
        """What is said to it."""
        if self.by_atrn:
            return (f"ATRN {','.join(self.domains)}".rstrip(),)
        return tuple(f"ETRN {domain}" for domain in self.domains)

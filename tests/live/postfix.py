"""Postfix as a peer: an instance of its own, in a directory of its own, on a port of its own.

It serves as the next hop that delivers to mailboxes, and (in bench/) as the relay Waypost is measured against.
Needs root: Postfix insists on the ownership of its directories.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.live.process import answers, free_port, must_run, run, until

#: What every instance has: nothing asked of DNS, nobody held back, loopback alone.
COMMON = {
    "compatibility_level": "3.6",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "myhostname": "postfix.test",
    "mynetworks": "127.0.0.0/8",
    "mydestination": "",
    "alias_maps": "",
    "alias_database": "",
    "biff": "no",
    "disable_dns_lookups": "yes",
    "smtp_host_lookup": "native",
    "smtpd_recipient_restrictions": "permit_mynetworks,reject",
    "smtpd_peername_lookup": "no",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_event_limit_exceptions": "127.0.0.0/8",
    "smtputf8_enable": "no",  # Debian's build would load an ICU library for each process
    "message_size_limit": "209715200",
    "mailbox_size_limit": "0",
    "virtual_mailbox_limit": "0",
    "maillog_file": "{directory}/maillog",
    "queue_directory": "{directory}/queue",
    "data_directory": "{directory}/data",
    "command_directory": "/usr/sbin",
    "daemon_directory": "/usr/lib/postfix/sbin",
    "mail_owner": "postfix",
    "setgid_group": "postdrop",
}

SERVICES = """\
127.0.0.1:{port} inet n - n - {processes} smtpd
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
showq     unix n - n - - showq
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
local     unix - n n - - local
virtual   unix - n n - - virtual
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
pickup    unix n - n 60 1 pickup
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running instance."""

    directory: Path
    port: int

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.directory / "maillog"

    @property
    def master(self) -> int:
        """The process id of its master; all its others are children of it."""
        return int((self.directory / "queue/pid/master.pid").read_text())

    def mailbox(self, user: str) -> Path:
        """The Maildir of a user of the domain `mailboxes` was given."""
        return self.directory / "mail" / user / "new"


@contextlib.asynccontextmanager
async def postfix(directory: Path, settings: Mapping[str, str], *, processes: int = 100) -> AsyncIterator[Postfix]:
    """An instance in `directory` (empty, and open to other users) with `settings` over the common ones."""
    port = free_port()
    config = _write_config(directory, {**COMMON, **settings}, SERVICES.format(port=port, processes=processes))
    await must_run("/usr/sbin/postfix", "-c", config, "start")
    instance = Postfix(directory, port)
    try:
        await until(lambda: answers(port), "Postfix greets", log=instance.log)
        yield instance
    finally:
        await run("/usr/sbin/postfix", "-c", config, "abort")


def _write_config(directory: Path, settings: Mapping[str, str], services: str) -> Path:
    config = directory / "config"
    for path in (config, directory / "queue", directory / "data"):
        path.mkdir()
    shutil.chown(directory / "data", "postfix", "postfix")
    lines = (f"{name} = {value.format(directory=directory)}\n" for name, value in settings.items())
    (config / "main.cf").write_text("".join(lines))
    (config / "master.cf").write_text(services)
    return config


def mailboxes(directory: Path, domain: str, *users: str) -> dict[str, str]:
    """Settings by which it takes mail for `users` of `domain` into Maildirs, and refuses everybody else at RCPT."""
    mail = directory / "mail"
    mail.mkdir()
    shutil.chown(mail, "nobody", "nogroup")
    mail.chmod(0o755)
    return {
        "virtual_mailbox_domains": domain,
        "virtual_mailbox_base": str(mail),
        "virtual_mailbox_maps": "inline:{{" + ",".join(f"{user}@{domain}={user}/" for user in users) + "}}",
        "virtual_uid_maps": "static:65534",
        "virtual_gid_maps": "static:65534",
        "virtual_minimum_uid": "1",
        "smtpd_recipient_restrictions": "reject_unlisted_recipient,permit_mynetworks,reject",
    }


def relay_to(port: int) -> dict[str, str]:
    """Settings by which it relays everything to 127.0.0.1:`port`, as fast as it can with its defaults otherwise.

    What is not default removes a handicap that has nothing to do with relaying: look-ups in DNS, rate limits by client
    address (all of a benchmark comes from one), and the pause it makes when mail comes in faster than it goes out.
    """
    return {
        "relayhost": f"[127.0.0.1]:{port}",
        "default_process_limit": "100",
        "default_destination_concurrency_limit": "20",
        "initial_destination_concurrency": "20",
        "in_flow_delay": "0",
        "qmgr_message_active_limit": "20000",
    }

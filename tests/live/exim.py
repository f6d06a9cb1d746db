"""Exim as the next hop: run from an unpacked package, for installing it would remove Postfix (setup.sh fetches it)."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.live.process import answers, daemon, free_port, until

BINARY = Path(os.environ.get("WAYPOST_LIVE_EXIM", "/var/cache/waypost-live/exim/usr/sbin/exim4"))
"""Where setup.sh unpacks it."""

CONFIG = """\
exim_user = Debian-exim
exim_group = Debian-exim
exim_path = {binary}
primary_hostname = exim.test
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/exim.pid
keep_environment =
{tls}daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
smtp_enforce_sync = true
accept_8bitmime = true
message_size_limit = 200M
domainlist ours = {domain}
acl_smtp_rcpt = rcpt
acl_smtp_data = data

begin acl
rcpt:
  require message = no such user here
          domains = +ours
          verify = recipient
  accept
data:
  accept

begin routers
users:
  driver = accept
  domains = +ours
  local_parts = {users}
  transport = maildir

{routers}
begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {directory}/mail/$local_part_data
  create_directory
  user = Debian-exim
  group = Debian-exim
  message_prefix =
  message_suffix =
{more}"""


@dataclass(frozen=True, slots=True)
class Exim:
    """A running daemon."""

    directory: Path
    port: int

    def mailbox(self, user: str) -> Path:
        """The Maildir of one of its users."""
        return self.directory / "mail" / user / "new"


@contextlib.asynccontextmanager
async def exim(
    directory: Path, domain: str, *users: str, tls: str = "tls_advertise_hosts =\n", more: str = "", routers: str = ""
) -> AsyncIterator[Exim]:
    """A daemon in `directory` (empty, and open to other users) that takes mail for `users` of `domain` alone.

    `more`: further transports, and sections, of its configuration; `routers`: for other domains.
    """
    port = free_port()
    config = directory / "exim.conf"
    config.write_text(
        CONFIG.format(
            binary=BINARY,
            directory=directory,
            port=port,
            domain=domain,
            users=" : ".join(users),
            tls=tls,
            more=more,
            routers=routers,
        )
    )
    for path in (directory / "spool", directory / "mail"):
        path.mkdir()
        shutil.chown(path, "Debian-exim", "Debian-exim")
    shutil.chown(directory, "Debian-exim", "Debian-exim")
    log = directory / "said"
    async with daemon(BINARY, "-C", config, "-bdf", "-q1m", log=log):
        await until(lambda: answers(port), "Exim greets", log=log)
        yield Exim(directory, port)

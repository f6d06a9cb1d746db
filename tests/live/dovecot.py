"""Dovecot as the mail store behind LMTP, over TCP and over a Unix socket."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.live.process import answers, daemon, free_port, until

CONFIG = """\
protocols = lmtp
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/dovecot.log
ssl = no
hostname = dovecot.test
mail_location = maildir:{directory}/mail/%n
mail_uid = dovecot
mail_gid = dovecot
first_valid_uid = 1
first_valid_gid = 1
lmtp_save_to_detail_mailbox = no
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {directory}/users
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  unix_listener {directory}/lmtp.sock {{
    mode = 0666
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Dovecot:
    """A running store."""

    directory: Path
    port: int

    @property
    def socket(self) -> Path:
        """Its LMTP socket in the file system."""
        return self.directory / "lmtp.sock"

    def mailbox(self, user: str) -> Path:
        """The Maildir of one of its users."""
        return self.directory / "mail" / user / "new"


@contextlib.asynccontextmanager
async def dovecot(directory: Path, *users: str) -> AsyncIterator[Dovecot]:
    """A store in `directory` (empty, and open to other users) for `users`, whatever the domain, and for nobody else."""
    port = free_port()
    config = directory / "dovecot.conf"
    config.write_text(CONFIG.format(directory=directory, port=port))
    (directory / "users").write_text("".join(f"{user}:::::{directory}/mail/{user}\n" for user in users))
    (directory / "mail").mkdir()
    shutil.chown(directory / "mail", "dovecot", "dovecot")
    log = directory / "dovecot.log"
    async with daemon("/usr/sbin/dovecot", "-F", "-c", config, log=directory / "said"):
        await until(lambda: answers(port), "Dovecot greets", log=log)
        yield Dovecot(directory, port)

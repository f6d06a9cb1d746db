"""Giving up root's rights, once the listening sockets are bound: from then on the process is an ordinary user's."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def become(user: str, spool: Path) -> None:
    """Be this user for good; a spool that is not there yet is made for him. Does nothing where we are not root.

    Raises: OSError, with a sentence: there is no such user, or the spool is somebody else's.
    """
    if os.geteuid() != 0:
        return
    try:
        who = pwd.getpwnam(user)
    except KeyError:
        raise OSError(f"service.user: there is no user {user!r}; make one: useradd --system {user}") from None
    if not spool.exists():
        spool.mkdir(mode=0o700, parents=True)
        os.chown(spool, who.pw_uid, who.pw_gid)
    if spool.stat().st_uid != who.pw_uid:
        raise OSError(f"spool {spool} is not {user}'s; let it be: chown -R {user} {spool}")
    os.initgroups(user, who.pw_gid)
    os.setgid(who.pw_gid)
    os.setuid(who.pw_uid)

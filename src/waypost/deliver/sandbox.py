"""Run as a script, in front of a program that is handed mail: takes away what the program does not need, becomes it.

    python -I -S sandbox.py MEMORY SECONDS UID GID PROGRAM ARGUMENT…

Limits on memory, processor time, file sizes and core files; no new privileges (a set-uid program gains nothing); where
UID is not -1, that user with the group GID and no others. A process of its own does this, since between fork and exec
of a process with threads hardly anything is safe. It imports nothing of Waypost's. Not here: time by the clock, and
what the exit status means (pipe.py).
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from typing import Final

#: Whatever goes wrong before the program runs: trouble of this machine (sysexits.h: EX_OSERR).
EX_OSERR: Final = 71
PR_SET_NO_NEW_PRIVS: Final = 38
#: Octets of a file it may write: a mailbox of a GB is full.
FILE_SIZE: Final = 1024**3


def main(arguments: list[str]) -> None:
    """Become the program. Raises: OSError, ValueError."""
    memory, seconds, uid, gid = (int(word) for word in arguments[:4])
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        lowered = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (lowered, lowered))
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    os.umask(0o077)
    os.execve(arguments[4], arguments[4:], dict(os.environ))  # noqa: S606 - the program that the route names


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        print(f"waypost: {sys.argv[5]} cannot be run: {error}", file=sys.stderr)  # noqa: T201 - it is how a child is heard
        sys.exit(EX_OSERR)

"""What a family of processes costs, read from /proc (Linux, see proc(5))."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all that descend from it now."""
    children = defaultdict(list)
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children[int(_fields(directory)[1])].append(int(directory.name))
    family, waiting = [], [pid]
    while waiting:
        member = waiting.pop()
        family.append(member)
        waiting += children[member]
    return family


def cpu_of_tree(pid: int) -> float:
    """Seconds of CPU, user and system, that a process and its descendants have used, those that have ended included."""
    total = 0
    for member in tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # utime, stime, and the same of children waited for (Postfix's live for 100 requests, then end)
            total += sum(int(field) for field in _fields(Path(f"/proc/{member}"))[11:15])
    return total / TICK


def cpu_of_machine() -> float:
    """Seconds of CPU all processes and the kernel have used; idle and waiting time do not count."""
    user, nice, system, _idle, _waiting, irq, soft_irq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + soft_irq) / TICK


def memory_of_tree(pid: int) -> float:
    """MiB of memory a process and its descendants hold, shared pages shared out (PSS)."""
    total = 0
    for member in tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def peak_of(pid: int) -> float:
    """MiB of memory a process has ever held at once (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def forget_peak(pid: int) -> None:
    """Let `peak_of` tell from now on of what is held from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _fields(directory: Path) -> list[str]:
    # The name in parentheses may hold anything; what follows the last one is regular: state is [0], parent [1].
    return (directory / "stat").read_text().rpartition(")")[2].split()

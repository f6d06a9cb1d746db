"""What is wrong with a configuration file: where, what, and what to write instead. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Complaint:
    """One thing to put right. `line` counts from 1, and is 0 where it is about the whole file; `key` is dotted."""

    line: int
    key: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.key}: " if self.key else ""
        return f"{where}{self.problem}. {self.remedy}{'' if self.remedy.endswith('?') else '.'}"


@dataclass(frozen=True, slots=True)
class Complaints:
    """All that is wrong with the file `where`, in the order of its lines; at least one."""

    where: str
    complaints: tuple[Complaint, ...]

    def __str__(self) -> str:
        return "\n".join(
            f"{self.where}:{complaint.line}: {complaint}" if complaint.line else f"{self.where}: {complaint}"
            for complaint in self.complaints
        )

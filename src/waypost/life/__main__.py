"""What a supervisor runs: `python -m waypost.life worker PLACE`, or `desk PLACE SHARDS`. Nobody types it."""

from __future__ import annotations

import sys

import msgspec

from waypost import collect_seldom


def main(kind: str, place: str, *more: str) -> int:
    """Be what `kind` says; the exit status."""
    collect_seldom()
    from waypost.life.place import Place  # noqa: PLC0415 - nearly all of the program: not before that
    from waypost.life.worker import answer, work  # noqa: PLC0415 - likewise

    told = msgspec.json.decode(place, type=Place)
    return work(told) if kind == "worker" else answer(told, msgspec.json.decode(more[0], type=list[int]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The configuration file: any text is a configuration or complaints, each with a line that exists and a remedy."""

from __future__ import annotations

from pathlib import Path

from waypost.config import Complaints, Config, parse

BASE = Path("/nowhere")


def one(octets: bytes) -> None:
    text = octets.decode("utf-8", "replace")
    parsed = parse(text, where="waypost.toml", base=BASE)
    match parsed:
        case Config():
            parsed.route_table()
            parsed.retry_policy()
        case Complaints():
            assert parsed.complaints
            for complaint in parsed.complaints:
                assert 0 <= complaint.line <= text.count("\n") + 1, complaint
                assert complaint.problem, complaint
            assert str(parsed)

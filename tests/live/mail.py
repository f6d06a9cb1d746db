"""The messages live tests send, each hard to carry in its own way, and the routes they take."""

from __future__ import annotations

import smtplib

from tests.live.service import Service

HEADER = (
    b"From: Alice <alice@origin.test>\r\nTo: bob@example.test\r\nSubject: live\r\n"
    b"Date: Mon, 01 Jan 2024 12:00:00 +0000\r\nMessage-ID: <live@origin.test>\r\n\r\n"
)

MESSAGES = {
    "plain": HEADER + b"Hello, Bob.\r\n",
    "dots": HEADER + b".\r\n..\r\n...\r\n.hidden\r\n ..\r\nend.\r\n.\r\n",
    "eight bits": HEADER + "Grüße, καλημέρα\r\n".encode() + bytes(range(0x80, 0x100)) + b"\r\n",
    "long lines": HEADER + (b"x" * 998 + b"\r\n") * 20,
    "no body": HEADER,
    "empty lines": HEADER + b"\r\n" * 500,
    "five megabytes": HEADER + (b"0123456789abcdef" * 4 + b"\r\n") * (5 * 1024 * 1024 // 66),
}


def to_port(port: int, *, domain: str = "*", extra: str = "") -> str:
    """A route to an SMTP server on loopback."""
    return route(domain, f"smtp://127.0.0.1:{port}", extra=extra)


def route(domain: str, to: str, *, extra: str = "") -> str:
    """A route."""
    return f'\n[[route]]\ndomains = ["{domain}"]\nto = ["{to}"]\naccept_from = "relay"\n{extra}\n'


def send(service: Service, octets: bytes, *recipients: str, reverse_path: str = "alice@origin.test") -> None:
    """Send a message into the service; it has to be accepted for every recipient."""
    with smtplib.SMTP("127.0.0.1", service.port, timeout=60) as client:
        refused = client.sendmail(reverse_path, recipients or ("bob@example.test",), octets)
    if refused:
        raise AssertionError(f"the service refused {refused}")

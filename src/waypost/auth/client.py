"""Our side of SASL mechanisms, without I/O: EXTERNAL, SCRAM-SHA-256(-PLUS), OAUTHBEARER, XOAUTH2; the strongest first.

PLAIN and LOGIN are waypost.smtp.client's own. Not here: which server gets which credentials (config/), or where an
access token comes from (oauth.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Final

from scramp import ScramClient, ScramException

from waypost.auth.bearer import OAUTHBEARER, XOAUTH2
from waypost.auth.scram import NAME, PLUS, ActingAs, Bindings
from waypost.net.stream import Endpoint
from waypost.smtp.command import NoResponse
from waypost.smtp.login import Credentials, GiveUp, Mechanisms, Spoken, by_password

#: The most work a server may ask of us (PBKDF2 on the event loop, some 50 ms): what is usual is a fifth of it.
MOST_ITERATIONS: Final = 100_000
_ITERATIONS: Final = re.compile(r",i=([0-9]{1,6})(?:,|$)")


def mechanisms(credentials: Credentials, bindings: Bindings, host: Endpoint) -> Mechanisms:
    """What `credentials` can be shown by to `host`, over a connection with these channel bindings."""
    if credentials.external:
        return {"EXTERNAL": partial(Spoken, credentials.act_as, first=True)}
    if credentials.oauth:
        return {
            OAUTHBEARER: partial(_Bearer, _oauthbearer(credentials, host), b"\1"),
            XOAUTH2: partial(_Bearer, _xoauth2(credentials), b""),
        }
    bound = {PLUS: partial(Scram, credentials, bindings)} if bindings else {}
    return {**bound, NAME: partial(Scram, credentials), **by_password(credentials)}


def _oauthbearer(credentials: Credentials, host: Endpoint) -> str:
    """RFC 7628 §3.1; the GS2 header names the user (RFC 5801 §4)."""
    name = credentials.username.replace("=", "=3D").replace(",", "=2C")
    return f"n,a={name},\1host={host.host}\1port={host.port}\1auth=Bearer {credentials.password}\1\1"


def _xoauth2(credentials: Credentials) -> str:
    return f"user={credentials.username}\1auth=Bearer {credentials.password}\1\1"


class _Bearer:
    """A token in one message; an error comes as a challenge, and is acknowledged before the reply that refuses."""

    is_satisfied = True

    def __init__(self, message: str, acknowledgement: bytes) -> None:
        self._message = message.encode()
        self._acknowledgement = acknowledgement

    def begin(self) -> bytes | NoResponse:
        return self._message

    def answer(self, challenge: bytes) -> bytes | GiveUp:  # noqa: ARG002 - the error; the transcript has it
        return self._acknowledgement


class Scram:
    """One exchange of SCRAM; with a binding of -PLUS. It believes no server that does not know the password too."""

    def __init__(self, credentials: Credentials, bindings: Bindings | None = None) -> None:
        self._credentials = credentials
        self._binding = next(iter(bindings.items())) if bindings else None
        self._next: Callable[[str], str] = self._final
        self.is_satisfied = False

    def begin(self) -> bytes | NoResponse:
        name = PLUS if self._binding else NAME
        try:
            self._client = ScramClient([name], self._credentials.username, self._credentials.password, self._binding)
            if self._credentials.act_as:
                self._client.gs2_header = ActingAs(self._client.gs2_header, self._credentials.act_as)
            first: str = self._client.get_client_first()
        except ScramException:  # a name or password that SASLprep forbids: the server will say so
            return b""
        return first.encode()

    def answer(self, challenge: bytes) -> bytes | GiveUp:
        try:
            return self._next(challenge.decode()).encode()
        except (ScramException, AttributeError, ValueError):
            return GiveUp()

    def _final(self, server_first: str) -> str:
        iterations = _ITERATIONS.search(server_first)
        if iterations is None or int(iterations[1]) > MOST_ITERATIONS:
            raise ValueError("more work than a password is worth")
        self._client.set_server_first(server_first)
        self._next = self._verify
        final: str = self._client.get_client_final()
        return final

    def _verify(self, server_final: str) -> str:
        self._client.set_server_final(server_final)
        self.is_satisfied = True
        self._next = self._nothing_more
        return ""

    def _nothing_more(self, challenge: str) -> str:
        raise ValueError(f"{len(challenge)} octets more than the mechanism has")

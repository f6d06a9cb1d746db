"""OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's, also Microsoft's), the server's side, without I/O.

Both carry a bearer token in their one message. A refusal is first told in JSON as a challenge; the client answers with
nothing to say, and only then comes the 535 (RFC 7628 §3.2.3). Not here: whether a token is good (token.py).
"""

from __future__ import annotations

import json
import re
from typing import Final

from waypost.auth.exchange import Challenge, CheckToken, Failed, Flaw, Step, malformed
from waypost.smtp.command import NoResponse

OAUTHBEARER: Final = "OAUTHBEARER"
XOAUTH2: Final = "XOAUTH2"

_GS2: Final = re.compile(r"(?:n|y|p=[A-Za-z0-9.-]+),(?:a=(?P<identity>[^,\x00]*))?,")
_AUTH: Final = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)  # RFC 6750 §2.1
_ESCAPED: Final = re.compile(r"=(2C|3D)")


class Bearer:
    """One exchange of either mechanism. `discovery`: the issuer's openid-configuration, told with a refusal."""

    def __init__(self, mechanism: str, discovery: str = "") -> None:
        self._mechanism = mechanism
        self._discovery = discovery
        self._verdict = malformed("no token came")

    def begin(self, response: bytes | NoResponse) -> Step:
        return Challenge(b"") if isinstance(response, NoResponse) else self.take(response)

    def take(self, response: bytes) -> Step:
        if self._verdict.flaw is Flaw.WRONG:  # the client has heard why
            return self._verdict
        try:
            text = response.decode()
            username, fields = _oauthbearer(text) if self._mechanism == OAUTHBEARER else _xoauth2(text)
            return CheckToken(username, _token(fields))
        except ValueError as error:
            return malformed(f"{self._mechanism}: {error}")

    def refused(self, username: str, why: str) -> Step:
        """The error as JSON: `status` in RFC 7628's words, or in XOAUTH2's, whose clients look for 400 or 401."""
        self._verdict = Failed(Flaw.WRONG, username, why)
        said = {"status": "invalid_token"} if self._mechanism == OAUTHBEARER else {"status": "401", "schemes": "bearer"}
        if self._discovery:
            said["openid-configuration"] = self._discovery
        return Challenge(json.dumps(said).encode())


def _oauthbearer(text: str) -> tuple[str, dict[str, str]]:
    """GS2 header, then key=value pairs, each ended by ^A, and one ^A more (RFC 7628 §3.1)."""
    header = _GS2.match(text)
    if header is None:
        raise ValueError("no GS2 header")
    if header[0].startswith("p="):
        raise ValueError("there is no channel binding for a bearer token")
    identity = _ESCAPED.sub(lambda found: {"2C": ",", "3D": "="}[found[1]], header["identity"] or "")
    return identity, _fields(text[header.end() :].removeprefix("\1"))


def _xoauth2(text: str) -> tuple[str, dict[str, str]]:
    fields = _fields(text)
    if not fields.get("user"):
        raise ValueError("no user")
    return fields["user"], fields


def _fields(text: str) -> dict[str, str]:
    if not text.endswith("\1\1"):
        raise ValueError("does not end in two ^A")
    pairs = [pair.partition("=") for pair in text[:-2].split("\1")]
    if not all(equals and key.isalpha() and key.isascii() for key, equals, _ in pairs):
        raise ValueError("not pairs of key and value")
    return {key.lower(): value for key, _, value in pairs}


def _token(fields: dict[str, str]) -> str:
    found = _AUTH.fullmatch(fields.get("auth", ""))
    if found is None:
        raise ValueError("no bearer token")
    return found[1]

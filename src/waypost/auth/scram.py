"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), the server's side, without I/O; scramp does the sums.

The password never crosses the wire, and what is stored (`Keys`) does not let a thief log in. Nobody can tell an unknown
user from a known one: he gets a salt too, always the same, and fails at his proof.

Channel binding. Python's ssl gives `tls-unique` (TLS 1.2 and before) and lets `tls-server-end-point` be had from the
certificate; it has no `tls-exporter` (RFC 9266), the default of TLS 1.3.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from scramp import ScramException, ScramMechanism
from scramp.core import Gs2Header, ServerError

from waypost.auth.exchange import LONGEST, Challenge, Failed, Flaw, Proven, Step, malformed
from waypost.smtp.command import NoResponse

NAME: Final = "SCRAM-SHA-256"
PLUS: Final = "SCRAM-SHA-256-PLUS"
#: RFC 7677 §4 asks for at least 4096 and recommends 15,000 where clients can bear it.
ITERATIONS: Final = 20_000
_PREFIX: Final = f"{NAME}$"

#: An escape in an identity that is none.
_BROKEN: Final = re.compile("=(?!2C|3D)")

#: Type of a channel binding → its data, as far as this connection has it.
Bindings: TypeAlias = Mapping[str, bytes]
NO_BINDINGS: Final[Bindings] = {}


@dataclass(frozen=True, slots=True)
class Keys:
    """What is stored of a password (RFC 5802 §3), and how it was made."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    @classmethod
    def of(cls, password: str) -> Keys:
        """The keys of a new password; takes some 10 ms. Raises: ValueError, where SASLprep forbids it (RFC 4013)."""
        try:
            salt, stored_key, server_key, iterations = ScramMechanism(NAME).make_auth_info(password, ITERATIONS)
        except ScramException as error:
            raise ValueError(f"the password holds characters that no client can send alike: {error}") from error
        return cls(iterations, salt, stored_key, server_key)

    @classmethod
    def parse(cls, text: str) -> Keys:
        """The keys that `str` wrote. Raises: ValueError."""
        try:
            head, keys = text.removeprefix(_PREFIX).split("$")
            iterations, salt = head.split(":")
            stored_key, server_key = (b64decode(key, validate=True) for key in keys.split(":"))
            return cls(int(iterations), b64decode(salt, validate=True), stored_key, server_key)
        except ValueError:
            raise ValueError(f"no SCRAM keys ({_PREFIX}iterations:salt$StoredKey:ServerKey)") from None

    def __str__(self) -> str:
        salt, stored, server = (b64encode(key).decode() for key in (self.salt, self.stored_key, self.server_key))
        return f"{_PREFIX}{self.iterations}:{salt}${stored}:{server}"

    def __repr__(self) -> str:
        return "Keys(…)"


def nobody(username: str, secret: bytes) -> Keys:
    """Keys for a user there is not: their salt is the same each time, and no password leads to them."""
    salt, key = (hmac.digest(secret, word + username.encode(), "sha256") for word in (b"salt ", b"key "))
    return Keys(ITERATIONS, salt[:16], key, key)


class Scram:
    """One exchange. `keys` knows the keys of every user name, also of those that nobody has (see `nobody`)."""

    def __init__(self, keys: Callable[[str], Keys], bindings: Bindings = NO_BINDINGS, *, plus: bool = False) -> None:
        self._keys = keys
        self._bindings = bindings
        self._plus = plus
        self._username = ""
        self._acting_as = ""
        self._stage = self._client_first

    def begin(self, response: bytes | NoResponse) -> Step:
        return Challenge(b"") if isinstance(response, NoResponse) else self.take(response)

    def take(self, response: bytes) -> Step:
        try:
            text = response.decode()
            if len(text) > 4 * LONGEST:
                return malformed("SCRAM: a message too long")
            return self._stage(text)
        except UnicodeDecodeError:
            return malformed("SCRAM: not UTF-8")
        except ScramException as error:
            flaw = Flaw.WRONG if self._username else Flaw.MALFORMED
            return Failed(flaw, self._username, f"SCRAM: {error}")

    def refused(self, username: str, why: str) -> Step:
        return Failed(Flaw.WRONG, username, why)

    def _client_first(self, text: str) -> Step:
        """`n,a=other,n=user,r=nonce`; the binding is chosen by the client, out of those there are."""
        flag, identity, bare = [*text.split(",", 2), "", ""][:3]
        if identity:
            self._acting_as = _identity(identity)
            text = f"{flag},,{bare}"
        wanted = text.partition(",")[0].removeprefix("p=")
        named = [wanted] if wanted in self._bindings else [*self._bindings][:1]
        binding = (named[0], self._bindings[named[0]]) if named else None
        self._server = ScramMechanism(PLUS if self._plus else NAME).make_server(self._look_up, binding)
        self._server.set_client_first(text)
        if identity:
            self._server.gs2_header = ActingAs(self._server.gs2_header, self._acting_as)
        self._stage = self._client_final
        return Challenge(self._server.get_server_first().encode())

    def _look_up(self, username: str) -> tuple[bytes, bytes, bytes, int]:
        self._username = username
        keys = self._keys(username)
        return keys.salt, keys.stored_key, keys.server_key, keys.iterations

    def _client_final(self, text: str) -> Step:
        self._server.set_client_final(text)
        self._stage = self._acknowledged
        return Challenge(self._server.get_server_final().encode())

    def _acknowledged(self, text: str) -> Step:
        """235 has no room for the server's proof, so it was a challenge; the response to it is empty (RFC 4954 §4)."""
        return malformed("SCRAM: more than the mechanism has") if text else Proven(self._username, self._acting_as)


def _identity(field: str) -> str:
    """The authorization identity in a GS2 header (RFC 5801 §4). Raises: ScramException."""
    key, _, name = field.partition("=")
    if key != "a" or not name or _BROKEN.search(name) or len(name.encode()) > LONGEST:
        raise ScramException("the authorization identity is none", ServerError.OTHER_ERROR)
    return name.replace("=2C", ",").replace("=3D", "=")


class ActingAs:
    """scramp's GS2 header with an authorization identity, for which scramp has no word (RFC 5802 §7)."""

    def __init__(self, plain: Gs2Header, identity: str) -> None:
        self._plain = plain
        self._identity = identity.replace("=", "=3D").replace(",", "=2C")

    def __str__(self) -> str:
        return f"{str(self._plain)[:-1]}a={self._identity},"

    def make_cbind_input(self, binding: object) -> bytes:
        """What the proof covers, so that nobody on the way can put another identity in."""
        octets: bytes = self._plain.make_cbind_input(binding)
        return str(self).encode() + octets.removeprefix(bytes(self._plain))

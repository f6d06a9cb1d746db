"""Bearer tokens of an issuer: JSON web tokens (RFC 7519), judged by its public keys (JWKS, RFC 7517).

The keys come from a file or over HTTPS; they are fetched again when a token names one that is not there, and once an
hour. Needs the extra `oauth` (joserfc). Not here: the SASL around a token (bearer.py).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from waypost.auth.account import Account
from waypost.auth.authenticator import CannotTell, Judgement, NotKnown
from waypost.auth.directory import MissingExtraError
from waypost.net.clock import Clock

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

#: Signatures that are taken: by a private key, never by a secret that we would have to share.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
#: How far clocks may differ.
SKEW: Final = timedelta(minutes=1)
#: How long keys are believed, and the least time between two fetches that strangers' tokens can cause.
KEYS_LAST: Final = timedelta(hours=1)
FETCH_PAUSE: Final = timedelta(minutes=1)
PATIENCE: Final = timedelta(seconds=10)
LARGEST: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who issues tokens for us. `keys`: a file, or an https URL; `claim`: which of a token's names the account."""

    name: str
    audience: str
    keys: str
    claim: str = "email"

    @property
    def discovery(self) -> str:
        """Where its clients learn about it (OpenID Connect Discovery §4)."""
        return f"{self.name.rstrip('/')}/.well-known/openid-configuration" if self.name.startswith("https://") else ""


class IssuedTokens:
    """Judges tokens of one issuer."""

    def __init__(self, issuer: Issuer, account: Callable[[str], Account], clock: Clock) -> None:
        """`account`: the account of a name. Raises: MissingExtraError."""
        try:
            import joserfc  # noqa: F401, PLC0415 - an extra: only who names an issuer needs it
        except ImportError as error:
            raise MissingExtraError("tokens need the extra oauth: pip install 'waypost[oauth]'") from error
        self._issuer = issuer
        self._account = account
        self._clock = clock
        self._keys: list[KeySet] = []  # the one, once it was read
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    @property
    def discovery(self) -> str:
        """Where a client finds its issuer."""
        return self._issuer.discovery

    async def check(self, username: str, token: str) -> Judgement:
        """Whose token this is."""
        from joserfc.errors import InvalidKeyIdError, JoseError  # noqa: PLC0415 - see above

        try:
            keys = await self._key_set(fresh=False)
            try:
                claims = self._claims(token, keys)
            except InvalidKeyIdError:
                claims = self._claims(token, await self._key_set(fresh=True))
        except (JoseError, ValueError) as error:
            return NotKnown(f"{type(error).__name__}: {error}")
        except _NoKeysError as error:
            return CannotTell(str(error))
        name = claims.get(self._issuer.claim, "")
        if not isinstance(name, str) or not name:
            return NotKnown(f"the token has no {self._issuer.claim}")
        if username and username.lower() != name.lower():
            return NotKnown(f"the token is {name}'s")
        return self._account(name.lower())

    def _claims(self, token: str, keys: KeySet) -> Mapping[str, Any]:
        """The claims of a token that is good now. Raises: JoseError, ValueError."""
        from joserfc import jwt  # noqa: PLC0415 - see above

        decoded = jwt.decode(token, keys, algorithms=list(ALGORITHMS))
        jwt.JWTClaimsRegistry(
            now=int(self._clock.now()),
            leeway=int(SKEW.total_seconds()),
            iss={"essential": True, "value": self._issuer.name},
            aud={"essential": True, "value": self._issuer.audience},
            exp={"essential": True},
        ).validate(decoded.claims)
        return decoded.claims

    async def _key_set(self, *, fresh: bool) -> KeySet:
        """The issuer's keys; `fresh`: a token names one that is not among them. Raises: _NoKeysError."""
        async with self._lock:
            since = self._clock.monotonic() - self._read_at
            if not self._keys or since > (FETCH_PAUSE if fresh else KEYS_LAST).total_seconds():
                try:
                    self._keys = [await self._read()]
                    self._read_at = self._clock.monotonic()
                except _NoKeysError:
                    if not self._keys:
                        raise
            return self._keys[0]

    async def _read(self) -> KeySet:
        from joserfc.errors import JoseError  # noqa: PLC0415 - see above
        from joserfc.jwk import KeySet  # noqa: PLC0415

        where = self._issuer.keys
        try:
            text = await _fetch(where) if where.startswith("http") else await asyncio.to_thread(Path(where).read_bytes)
            found: KeySet = KeySet.import_key_set(json.loads(text))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _NoKeysError(f"the issuer's keys cannot be read at {where}: {error}") from error
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise _NoKeysError(f"{where} holds no keys: {type(error).__name__} {error}") from error
        return found


class _NoKeysError(Exception):
    """The issuer's keys are not to be had."""


async def _fetch(url: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=PATIENCE.total_seconds())
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session, session.get(url) as response:
        return await response.content.read(LARGEST)

"""MTA-STS: what a domain says about the TLS of its exchangers (RFC 8461), read from its TXT record and its policy file.

Pure: octets in, values out. Not here: fetching and keeping policies (sts_keeper.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final

from waypost.net.clock import Instant
from waypost.route.domain import host_name

#: RFC 8461 §3.3: what a client reads of a policy at most.
MAX_POLICY: Final = 64 * 1024
#: RFC 8461 §3.2: about a year.
MAX_AGE: Final = timedelta(seconds=31_557_600)
#: Patterns of exchangers kept of one policy; far more than any domain has.
MAX_PATTERNS: Final = 200

_RECORD: Final = re.compile(rb"v=STSv1[ \t]*;(?P<fields>.*)", re.DOTALL)
_FIELD: Final = re.compile(rb"[ \t]*([A-Za-z0-9][A-Za-z0-9_.-]{0,31})=([\x21-\x3a\x3c\x3e-\x7e]+)[ \t]*")
_ID: Final = re.compile(rb"[A-Za-z0-9]{1,32}")
_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_AGE: Final = re.compile(r"[0-9]{1,10}")


class Mode(Enum):
    """What follows where a host does not keep to the policy (RFC 8461 §5)."""

    ENFORCE = "enforce"  # no mail to it
    TESTING = "testing"  # mail as if there were no policy, and a report
    NONE = "none"  # there is no policy any more


class PolicyError(ValueError):
    """A policy, or the record that announces one, that means nothing; the domain's fault. A sentence."""


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A policy as it was fetched. `patterns`: host names in lower case, some with `*` for the leftmost label."""

    mode: Mode
    max_age: timedelta
    patterns: tuple[str, ...]

    def allows(self, host: str) -> bool:
        """Whether `host`, in lower case, is among the exchangers it names (RFC 8461 §4.1)."""
        return any(pattern == host or pattern == f"*.{host.partition('.')[2]}" for pattern in self.patterns)

    @property
    def lines(self) -> tuple[str, ...]:
        """The policy's lines, as a report quotes them (RFC 8460 §4.1)."""
        age = int(self.max_age.total_seconds())
        patterns = (f"mx: {pattern}" for pattern in self.patterns)
        return ("version: STSv1", f"mode: {self.mode.value}", *patterns, f"max_age: {age}")


@dataclass(frozen=True, slots=True)
class KeptPolicy:
    """A policy of `domain`, with the id it was announced by and how long it may be believed."""

    domain: str
    id: str
    policy: StsPolicy
    fetched_at: Instant

    @property
    def expires_at(self) -> Instant:
        """From then on it counts no more."""
        return self.fetched_at + self.policy.max_age.total_seconds()


def record_id(texts: Iterable[bytes]) -> str:
    """The id in the TXT records at `_mta-sts.<domain>`; "" where they announce no policy (RFC 8461 §3.1).

    Raises: PolicyError, where one is meant and cannot be read.
    """
    meant = [text for text in texts if _RECORD.match(text)]
    if not meant:
        return ""
    if len(meant) > 1:
        raise PolicyError(f"{len(meant)} TXT records announce a policy, and one may")
    fields = _fields(meant[0])
    if not _ID.fullmatch(fields.get(b"id", b"")):
        raise PolicyError("the TXT record that announces a policy has no id of 1 to 32 letters and digits")
    return fields[b"id"].decode("ascii")


def _fields(record: bytes) -> dict[bytes, bytes]:
    """`key=value` parts behind the version; of a key that is there twice the first counts."""
    found: dict[bytes, bytes] = {}
    parts = record.split(b";")[1:]
    for number, part in enumerate(parts, 1):
        if not part.strip(b" \t") and number == len(parts):
            continue
        field = _FIELD.fullmatch(part)
        if field is None:
            raise PolicyError("the TXT record that announces a policy is malformed")
        found.setdefault(field[1], field[2])
    return found


def parse_policy(octets: bytes) -> StsPolicy:
    """The policy in a file (RFC 8461 §3.2). Raises: PolicyError."""
    if len(octets) > MAX_POLICY:
        raise PolicyError(f"its policy is larger than {MAX_POLICY} octets")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise PolicyError("its policy is no text") from None
    fields, patterns = _policy_fields(text)
    if fields.get("version") != "STSv1":
        raise PolicyError('its policy does not say "version: STSv1"')
    mode = _mode(fields.get("mode", ""))
    if not patterns and mode is not Mode.NONE:
        raise PolicyError('its policy names no host ("mx: …")')
    return StsPolicy(mode, _age(fields.get("max_age", "")), patterns)


def _policy_fields(text: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """`key: value` lines: of a key that is there twice the first counts, but for `mx`, of which all do."""
    fields: dict[str, str] = {}
    patterns: dict[str, None] = {}
    for line in text.split("\n"):
        key, colon, value = line.removesuffix("\r").partition(":")
        key, value = key.strip(" \t"), value.strip(" \t")
        if not key and not colon:
            continue
        if not colon or not _KEY.fullmatch(key):
            raise PolicyError('its policy holds a line that is no "key: value"')
        if key == "mx":
            patterns[_pattern(value)] = None
        fields.setdefault(key, value)
    if len(patterns) > MAX_PATTERNS:
        raise PolicyError(f"its policy names more than {MAX_PATTERNS} hosts")
    return fields, tuple(patterns)


def _pattern(text: str) -> str:
    star = "*." if text.startswith("*.") else ""
    try:
        return star + host_name(text.removeprefix(star))
    except ValueError as error:
        raise PolicyError(f"its policy names a host that cannot be one: {error}") from error


def _mode(text: str) -> Mode:
    try:
        return Mode(text)
    except ValueError:
        raise PolicyError('its policy has a mode other than "enforce", "testing" and "none"') from None


def _age(text: str) -> timedelta:
    if not _AGE.fullmatch(text):
        raise PolicyError("its policy has no max_age in seconds")
    return min(timedelta(seconds=int(text)), MAX_AGE)

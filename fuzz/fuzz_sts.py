"""MTA-STS: a domain's TXT record and policy file are read, or refused with a reason, whatever octets they hold."""

from __future__ import annotations

from waypost.route.mta_sts import MAX_AGE, MAX_PATTERNS, PolicyError, parse_policy, record_id


def one(octets: bytes) -> None:
    """Octet 0: a record (even) or a policy (odd); records are parted by NUL."""
    (_policy if octets[:1] and octets[0] & 1 else _record)(octets[1:])


def _record(octets: bytes) -> None:
    try:
        found = record_id(octets.split(b"\0"))
    except PolicyError:
        return
    assert len(found) <= 32
    assert not found or (found.isascii() and found.isalnum())


def _policy(octets: bytes) -> None:
    try:
        policy = parse_policy(octets)
    except PolicyError:
        return
    assert policy.max_age <= MAX_AGE
    assert len(policy.patterns) <= MAX_PATTERNS
    assert all(policy.allows(pattern) for pattern in policy.patterns if not pattern.startswith("*"))
    assert parse_policy("\n".join(policy.lines).encode()) == policy

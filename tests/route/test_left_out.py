"""Why a mail exchanger is not tried."""

from __future__ import annotations

import random

from tests.route.written import WrittenResolver
from waypost.net.resolver import Addresses, MxRecord, MxRecords, NullMx
from waypost.route.hosts import MAX_MX_HOSTS, HostFinder
from waypost.route.route import Hosts, SmtpMx

ZONE = {"a.example": "192.0.2.1", "us.example": "192.0.2.250", "elsewhere.example": "192.0.2.250", "b.example": "::1"}


def finder(*records: tuple[int, str]) -> HostFinder:
    return HostFinder(
        WrittenResolver(
            {
                "example.org": MxRecords(tuple(MxRecord(preference, host) for preference, host in records)),
                "null.example": NullMx(),
            },
            {name: Addresses((address,)) for name, address in ZONE.items()},
        ),
        own_names={"us.example"},
        own_addresses={"192.0.2.250"},
        own_ports={25},
        dice=random.Random(1),  # noqa: S311 - dice, not secrets
    )


async def test_ourselves_and_all_that_is_no_nearer_are_left_out_with_the_reason() -> None:
    found = finder((5, "a.example"), (10, "us.example"), (10, "a2.example"), (20, "elsewhere.example"))
    assert await found.left_out(SmtpMx("example.org")) == {
        "us.example": "this service itself",
        "a2.example": "no nearer than this service itself, which is at preference 10",
        "elsewhere.example": "this service itself",
    }


async def test_an_exchanger_at_loopback_is_left_out_with_the_setting_that_would_take_it() -> None:
    reasons = await finder((5, "b.example"), (10, "a.example")).left_out(SmtpMx("example.org"))
    assert set(reasons) == {"b.example"}
    assert "allow_loopback_mx" in reasons["b.example"]


async def test_of_very_many_exchangers_the_last_are_left_out() -> None:
    found = finder(*((number, f"mx{number}.example") for number in range(MAX_MX_HOSTS + 2)))
    reasons = await found.left_out(SmtpMx("example.org"))
    assert reasons == {f"mx{MAX_MX_HOSTS + one}.example": f"beyond the first {MAX_MX_HOSTS}" for one in range(2)}


async def test_what_is_tried_has_no_reason() -> None:
    found = finder((5, "a.example"))
    assert isinstance(await found.hosts(SmtpMx("example.org")), Hosts)
    assert await found.left_out(SmtpMx("example.org")) == {}
    assert await found.left_out(SmtpMx("null.example")) == {}

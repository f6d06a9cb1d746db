"""The pytest plugin: one fixture, `waypost`, which runs the service of a configuration for as long as a scene takes.

    from waypost.testing.peer import Peer

    def test_an_invoice_is_tagged(waypost):
        store = Peer()

        async def scene(service):
            client = await service.client("203.0.113.9")
            assert (await client.letter("bob@example.com", octets=INVOICE)).startswith("250")
            await service.quiet()
            assert b"X-Class: invoice" in store.accepted[0][1]

        waypost.run("waypost.toml", scene, hosts={"192.0.2.10:25": store})

Not here: how the service is run (service.py); it is imported when the fixture is asked for, and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from waypost.testing.service import Stage


@pytest.fixture
def waypost(request: pytest.FixtureRequest) -> Stage:
    """Runs scenes; file names are relative to the test's own directory."""
    from waypost.testing.service import Stage  # noqa: PLC0415 - other tests need not wait for a mail service

    return Stage(request.path.parent)

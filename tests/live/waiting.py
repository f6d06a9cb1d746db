"""What a message in the queue waits for, asked of the service from outside."""

from __future__ import annotations

from tests.live.process import until
from tests.live.service import Service


async def outcome_of_the_first_attempt(service: Service) -> str:
    """What the queue says of its one recipient, once it was tried."""
    found: list[str] = []

    async def tried() -> bool:
        found[:] = [str(entry["last_outcome"]) for entry in await service.queue() if entry["attempts"]]
        return bool(found)

    await until(tried, "an attempt", log=service.log)
    return found[0]

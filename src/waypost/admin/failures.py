"""Failures that more than one desk has to tell of, each in the same words."""

from __future__ import annotations

from waypost.admin.answers import FailureKind, OperationError, Reloaded


def no_captured(number: int) -> OperationError:
    """There is no such message in the inbox."""
    return OperationError(
        FailureKind.NOT_FOUND, f"no captured message {number}", "list those there are: waypost inbox list"
    )


async def not_renewed(_by: str) -> Reloaded:
    """How a configuration is read anew where no service runs. Raises: OperationError, always."""
    raise OperationError(
        FailureKind.UNAVAILABLE, "the service is not running", "it reads its configuration when it starts"
    )

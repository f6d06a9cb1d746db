"""What a message needs of a peer, and what is done where the peer lacks it: before MAIL, so that nothing is half said.

Not here: the dialogue (transaction.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from waypost.deliver.connection import Connection
from waypost.deliver.fates import Open, deferred
from waypost.mail.envelope import Octets, QueuedMessage, QueuedRecipient
from waypost.mail.outcome import PolicyRefused, Rejected
from waypost.queue.storage import StorageError
from waypost.smtp.client import Transaction
from waypost.smtp.extension import BodyType, Extensions
from waypost.smtp.reply import EnhancedStatus

#: From so many octets on a body goes in one chunk where the peer takes chunks: nothing in it is looked at on the way.
LARGE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fits:
    """How the message goes to this peer."""

    transaction: Transaction
    octets: Octets


async def fit(
    connection: Connection, message: QueuedMessage, recipients: Sequence[QueuedRecipient], octets: Octets
) -> Fits | Open | Rejected:
    """The transaction for this peer, or why there can be none."""
    extensions, declared = connection.extensions, message.parameters
    limit = extensions.size_limit
    if 0 < limit < octets.size:
        said = f"the message has {octets.size} octets, and {connection.host} takes no more than {limit}"
        return _refused(said, EnhancedStatus(5, 3, 4))
    transaction = Transaction(
        message.reverse_path,
        replace(declared, size=octets.size),
        [(recipient.forward_path, recipient.parameters) for recipient in recipients],
        chunked=_is_chunked(declared.body, octets, extensions),
    )
    if "SMTPUTF8" not in extensions and (declared.smtputf8 or transaction.has_wide_addresses):
        return _lacks(connection, "SMTPUTF8", EnhancedStatus(5, 6, 7))
    if declared.body is BodyType.BINARY_MIME and not _takes_binary(extensions):
        return _lacks(connection, "BINARYMIME", EnhancedStatus(5, 6, 3))
    if declared.body is BodyType.EIGHT_BIT_MIME and "8BITMIME" not in extensions and await _has_8bit(octets):
        return _lacks(connection, "8BITMIME", EnhancedStatus(5, 6, 3))
    return Fits(transaction, octets)


def _is_chunked(body: BodyType, octets: Octets, extensions: Extensions) -> bool:
    return "CHUNKING" in extensions and (body is BodyType.BINARY_MIME or octets.size >= LARGE)


def _takes_binary(extensions: Extensions) -> bool:
    return "CHUNKING" in extensions and "BINARYMIME" in extensions


def _lacks(connection: Connection, extension: str, status: EnhancedStatus) -> Open:
    host = connection.host
    if connection.approach.says_helo:  # EHLO broke: that it has no extension is a guess, and nothing to bounce for
        said = f"the message needs {extension}, which HELO cannot offer, and {host} breaks on EHLO"
        return Open(deferred(PolicyRefused(said, status.as_transient())))
    return Open(_refused(f"the message needs {extension}, which {host} does not offer", status))


def _refused(said: str, status: EnhancedStatus) -> Rejected:
    return Rejected(PolicyRefused(said, status), status)


async def _has_8bit(octets: Octets) -> bool:
    try:
        async for chunk in octets:
            if not chunk.isascii():
                return True
    except StorageError:
        return False  # sending it will meet the same, and say so
    return False

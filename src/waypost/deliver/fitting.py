"""What a message needs of a peer, and what is done where the peer lacks it: before MAIL, so that nothing is half said.

Where it lacks 8BITMIME or BINARYMIME the message is converted for it, if that does no harm; where it lacks SMTPUTF8 it
gets what can be said in ASCII (RFC 6531 §3.2). A peer that takes the message as it is gets it as it is.

Not here: the dialogue (transaction.py), and how a message is converted (waypost.mail.convert).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from waypost.deliver.connection import Connection
from waypost.deliver.fates import Open, deferred
from waypost.mail.convert import UnconvertibleError, Way, convert, has_wide_header
from waypost.mail.envelope import InMemory, Octets, Prefixed, QueuedMessage, QueuedRecipient
from waypost.mail.header import first_field, header_of, without_field
from waypost.mail.outcome import PolicyRefused, Rejected
from waypost.net.stream import is_local
from waypost.queue.storage import StorageError
from waypost.route.domain import to_ascii
from waypost.smtp.extension import BodyType, ByMode, Extensions, RcptParameters, by_of
from waypost.smtp.path import AddressLiteral, DomainName, ForwardPath, Mailbox, ReversePath, is_ascii
from waypost.smtp.reply import EnhancedStatus
from waypost.smtp.transaction import Transaction

#: From so many octets on a body goes in one chunk where the peer takes chunks: nothing in it is looked at on the way.
LARGE: Final = 1024 * 1024
#: Octets of a message that is converted, which is done in memory.
CONVERTIBLE: Final = 32 * 1024 * 1024
#: Octets that are converted without leaving the event loop: some milliseconds' work.
_AT_ONCE: Final = 64 * 1024

_Path = TypeVar("_Path", ReversePath, ForwardPath)

_NO_UTF8: Final = EnhancedStatus(5, 6, 7)
_NO_REQUIRETLS: Final = EnhancedStatus(5, 7, 30)
_NO_CONVERSION: Final = EnhancedStatus(5, 6, 3)
#: "Delivery time expired": it would, as far as anybody can tell (RFC 2852 §4).
_LATE: Final = EnhancedStatus(5, 4, 7)
#: The most seconds BY can tell of.
_LATEST: Final = 999_999_999


@dataclass(frozen=True, slots=True)
class Fits:
    """How the message goes to this peer, and to whom. `unfit`: whose addresses the peer cannot be told, and why."""

    transaction: Transaction
    recipients: Sequence[QueuedRecipient]
    octets: Octets
    unfit: Sequence[tuple[QueuedRecipient, Open]] = ()


async def fit(
    connection: Connection, message: QueuedMessage, recipients: Sequence[QueuedRecipient], octets: Octets
) -> Fits | Open | Rejected:
    """The transaction for this peer, or why there can be none."""
    extensions = connection.extensions
    try:
        _check_requiretls(connection, message)
        if message.parameters.by:
            _check_deliver_by(connection, message)
        reverse_path, unfit = await _addresses(connection, message, recipients, octets)
        body, octets = await _body(message.parameters.body, octets, extensions)
        if message.parameters.priority and "MT-PRIORITY" not in extensions:
            octets = await _with_priority(octets, message.parameters.priority)
    except _LacksError as lack:
        return _lacks(connection, lack)
    limit = extensions.size_limit
    if 0 < limit < octets.size:
        said = f"the message has {octets.size} octets, and {connection.host} takes no more than {limit}"
        return _refused(said, EnhancedStatus(5, 3, 4))
    told = [recipient for recipient in recipients if recipient.number not in unfit]
    transaction = Transaction(
        reverse_path,
        message.parameters.as_sent(
            octets.size,
            body,
            _by_now(connection, message) if message.parameters.by else "",
            prdr="PRDR" in extensions and len(told) > 1,
        ),
        [_named(recipient, extensions) for recipient in told],
        chunked="CHUNKING" in extensions and (body is BodyType.BINARY_MIME or octets.size >= LARGE),
    )
    refused = [(one, _lacks(connection, unfit[one.number])) for one in recipients if one.number in unfit]
    return Fits(transaction, told, octets, refused)


# ---- what is lacking
class _LacksError(Exception):
    """The peer lacks an extension, and nothing can be done about it; the text is what else there is to say."""

    def __init__(self, extension: str, status: EnhancedStatus, why: str = "") -> None:
        super().__init__(why)
        self.extension = extension
        self.status = status


def _lacks(connection: Connection, lack: _LacksError) -> Open:
    host, needed, why = connection.host, f"the message needs {lack.extension}", str(lack)
    if connection.approach.says_helo:  # EHLO broke: that it has no extension is a guess, and nothing to bounce for
        said = f"{needed}, which HELO cannot offer, and {host} breaks on EHLO{why}"
        return Open(deferred(PolicyRefused(said, lack.status.as_transient())))
    return Open(_refused(f"{needed}, which {host} does not offer{why}", lack.status))


def _refused(said: str, status: EnhancedStatus) -> Rejected:
    return Rejected(PolicyRefused(said, status), status)


# ---- TLS (RFC 8689 §4.2.1)
def _check_requiretls(connection: Connection, message: QueuedMessage) -> None:
    """Whether a message tagged REQUIRETLS may go to this peer at all; its certificate was verified in the handshake.

    Over LMTP it is delivered, and may go to a store on this machine. Raises: _LacksError.
    """
    if not message.parameters.requiretls:
        return
    if connection.approach.is_lmtp:
        promised = is_local(connection.host.endpoint)
    else:
        promised = connection.secured and "REQUIRETLS" in connection.extensions
    if not promised:
        raise _LacksError("REQUIRETLS", _NO_REQUIRETLS)


# ---- a time to deliver by (RFC 2852), and replies for each recipient (PRDR)
def _check_deliver_by(connection: Connection, message: QueuedMessage) -> None:
    """Whether this peer keeps the time after which the message is to come back. Raises: _LacksError."""
    if by_of(message.parameters.by).mode is not ByMode.RETURN or connection.approach.is_lmtp:
        return
    extensions = connection.extensions
    if "DELIVERBY" not in extensions:
        raise _LacksError("DELIVERBY", _LATE)
    left = int(message.deliver_by - connection.now)
    if left < extensions.least_by_time:
        raise _LacksError(
            "DELIVERBY", _LATE, f" with {left} seconds left; it takes {extensions.least_by_time} at least"
        )


def _by_now(connection: Connection, message: QueuedMessage) -> str:
    """The time that is left, as this peer is told it."""
    by = by_of(message.parameters.by)
    seconds = max(int(message.deliver_by - connection.now), 1 if by.mode is ByMode.RETURN else -_LATEST)
    return str(replace(by, seconds=seconds))


# ---- priority (RFC 6758 §3.3)
async def _with_priority(octets: Octets, priority: int) -> Octets:
    """The message with its priority in the header, for a peer that takes none beside it.

    One that stands there already is replaced, unless the message is too large to be held: then it has said its own.
    """
    field = f"MT-Priority: {priority}\r\n".encode()
    if isinstance(octets, InMemory):
        return InMemory(field + without_field(octets.octets, b"mt-priority"))
    try:
        async for chunk in octets:
            return octets if first_field(header_of(chunk), b"mt-priority") else Prefixed(field, octets)
    except StorageError:
        pass  # sending it will meet the same, and say so
    return octets


# ---- addresses (RFC 6531)
async def _addresses(
    connection: Connection, message: QueuedMessage, recipients: Sequence[QueuedRecipient], octets: Octets
) -> tuple[ReversePath, dict[int, _LacksError]]:
    """The reverse-path as the peer is told it, and the numbers of recipients that it cannot be. Raises: _LacksError."""
    if "SMTPUTF8" in connection.extensions:
        return message.reverse_path, {}
    lack = _LacksError("SMTPUTF8", _NO_UTF8)
    if message.parameters.smtputf8 and await _has_wide_header(octets):
        raise lack
    reverse_path = _in_ascii(message.reverse_path)
    if not is_ascii(reverse_path):
        raise lack
    unfit = {one.number: lack for one in recipients if not is_ascii(_in_ascii(one.forward_path))}
    if len(unfit) == len(recipients):
        raise lack
    return reverse_path, unfit


def _named(recipient: QueuedRecipient, extensions: Extensions) -> tuple[ForwardPath, RcptParameters]:
    path = recipient.forward_path
    return path if "SMTPUTF8" in extensions else _in_ascii(path), recipient.parameters


def _in_ascii(path: _Path) -> _Path:
    """The path with its domain in A-labels, another spelling of the same name (RFC 5890 §2.3.2.1), where it has one."""
    if is_ascii(path) or not isinstance(path, Mailbox) or isinstance(path.domain, AddressLiteral):
        return path
    try:
        return replace(path, domain=DomainName(to_ascii(path.domain)))
    except ValueError:
        return path


async def _has_wide_header(octets: Octets) -> bool:
    try:
        return has_wide_header(await _whole(octets))
    except StorageError:
        return False  # sending it will meet the same, and say so


# ---- bodies (RFC 6152 §3, RFC 3030 §3)
async def _body(declared: BodyType, octets: Octets, extensions: Extensions) -> tuple[BodyType, Octets]:
    """The body as this peer takes it, and what it then is. Raises: _LacksError."""
    chunked_or_not = declared is not BodyType.BINARY_MIME or "CHUNKING" in extensions
    if declared is BodyType.SEVEN_BIT or (declared.value in extensions and chunked_or_not):
        return declared, octets
    way = Way.EIGHT_BIT if "8BITMIME" in extensions else Way.SEVEN_BIT
    lack = _LacksError(declared.value, _NO_CONVERSION, f"; it is too large to be converted ({octets.size} octets)")
    if octets.size > CONVERTIBLE:
        raise lack
    try:
        whole = await _whole(octets)
        converted = convert(whole, way) if len(whole) <= _AT_ONCE else await asyncio.to_thread(convert, whole, way)
    except StorageError:
        return declared, octets  # sending it will meet the same, and say so
    except UnconvertibleError as error:
        raise _LacksError(declared.value, _NO_CONVERSION, f"; it cannot be converted: {error}") from error
    now = BodyType.SEVEN_BIT if way is Way.SEVEN_BIT or converted.isascii() else BodyType.EIGHT_BIT_MIME
    return now, octets if converted is whole else InMemory(converted)


async def without_binary(message: QueuedMessage, octets: Octets) -> Octets | Rejected:
    """The message in lines, for a place that keeps lines: a binary body is converted, or cannot go there."""
    if message.parameters.body is not BodyType.BINARY_MIME:
        return octets
    try:
        return (await _body(BodyType.BINARY_MIME, octets, Extensions({"8BITMIME": ()})))[1]
    except _LacksError as lack:
        return _refused(f"the message is binary, and a Maildir keeps lines{lack}", lack.status)


async def _whole(octets: Octets) -> bytes:
    return octets.octets if isinstance(octets, InMemory) else b"".join([chunk async for chunk in octets])

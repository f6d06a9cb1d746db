"""What all questions have in common: ids, selections and places are checked, answers bounded, trouble put in words.

Raises throughout: OperationError. Not here: any answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from waypost.admin.answers import ActBody, FailureKind, OperationError
from waypost.mail.envelope import MessageId
from waypost.queue.ids import to_number
from waypost.queue.storage import EDGE, Place, RecipientState, Selection, StorageError
from waypost.route.domain import host_name, literal
from waypost.route.target import is_address
from waypost.smtp.path import Domain, DomainName

#: What a page holds at the most.
PAGE: Final = 1000


@contextmanager
def storage_trouble() -> Iterator[None]:
    """Whatever is asked of the storage is asked within."""
    try:
        yield
    except StorageError as error:
        raise OperationError(
            FailureKind.UNAVAILABLE, f"the spool did not answer: {error}", "see the service's log; nothing was changed"
        ) from error


def bounded(limit: int) -> int:
    """What a page holds, of what was asked for."""
    return min(max(limit, 1), PAGE)


def message_id(text: str) -> MessageId:
    """`text` as the id it should be."""
    try:
        to_number(MessageId(text))
    except ValueError as error:
        raise OperationError(
            FailureKind.BAD_REQUEST,
            str(error),
            "take an id from the Received header, the log or waypost queue list; an address has an @",
        ) from None
    return MessageId(text)


def domain_of(text: str) -> Domain:
    """A domain, or that of an address."""
    name = text.rpartition("@")[2]
    try:
        return literal(name) if name.startswith("[") or is_address(name) else DomainName(host_name(name))
    except ValueError as error:
        raise OperationError(
            FailureKind.BAD_REQUEST, str(error), "give a domain such as example.com, or an address such as [192.0.2.1]"
        ) from None


# ---- which recipients
def known(selection: Selection) -> Selection:
    """The selection, its ids and its state checked."""
    for id in selection.ids:  # noqa: A001 - the field's own name
        message_id(id)
    states = [state.value for state in RecipientState]
    if selection.state and selection.state not in states:
        raise OperationError(
            FailureKind.BAD_REQUEST, f"no recipient is {selection.state!r}", f"a state is one of {', '.join(states)}"
        )
    return selection


def meant(action: str, body: ActBody) -> Selection:
    """What an action is to be done to: all there is only where that was said."""
    if body.selection == Selection() and not body.everything:
        raise OperationError(
            FailureKind.BAD_REQUEST,
            f"{action} without a selection would mean everything there is",
            "give an id, an address, a domain or a next hop, or say that all is meant",
        )
    return known(body.selection)


# ---- places in the queue
def place_text(place: Place) -> str:
    """As `after` takes it; empty behind the last."""
    return "" if place == EDGE else f"{place[0]}:{place[1]}"


def place_of(after: str) -> Place:
    """The place behind which to go on."""
    if not after:
        return EDGE
    id, _, number = after.partition(":")  # noqa: A001 - the field's own name
    if not (number.isascii() and number.isdigit()):
        raise OperationError(FailureKind.BAD_REQUEST, f"{after!r} is no place in the queue", "pass `next` as it came")
    return message_id(id), int(number)

"""A message out of another mail server's queue, as a value, and as an entry of an archive (queue/archive.py).

Not here: reading it (postfix_queue.py, exim_queue.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from waypost.mail.envelope import Envelope, NextHop, Origin, Recipient
from waypost.mail.errand import with_crlf
from waypost.queue import record
from waypost.queue.ids import first_number
from waypost.queue.moving import EventPart, Parcel, RecipientPart, StoredPart
from waypost.smtp.extension import BodyType, MailParameters, Notify, RcptParameters, Return
from waypost.smtp.path import Mailbox, NullPath, PathError, parse_mailbox


class QueueFileError(ValueError):
    """The file is no queue file, or not a whole one; the text says where."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A recipient that waits, and what was asked for him: NOTIFY and ORCPT (RFC 3461 §4) as they were said, or ""."""

    address: str
    notify: str = ""
    original_recipient: str = ""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A message that waits there. `recipients`: those that are still to be delivered to; may be none.

    `name`: what it is called there. `received_at` 0: nobody knows. `warned`: its author was told of the delay.
    """

    name: str
    sender: str
    recipients: tuple[Asked, ...]
    octets: bytes  # lines end in LF
    received_at: float = 0.0
    ret: str = ""
    envelope_id: str = ""
    warned: bool = False
    held: str = ""


def parcel_of(found: Foreign, source: str, now: float) -> Parcel:
    """What our queue is to know of it. Raises: QueueFileError, where an address is none.

    Its id follows from when it came and what it is called there, so that who reads it twice knows it again.
    """
    octets, received_at = with_crlf(found.octets), min(found.received_at or now, now)
    recipients = tuple(_recipient(one) for one in found.recipients)
    ret, sender = Return(found.ret.upper()), _sender(found.sender)
    addresses = [found.sender, *(one.address for one in found.recipients)]
    parameters = MailParameters(
        body=BodyType.SEVEN_BIT if octets.isascii() else BodyType.EIGHT_BIT_MIME,
        smtputf8=not all(map(str.isascii, addresses)),
        ret=ret,
        envelope_id=found.envelope_id,
    )
    envelope = Envelope(sender, recipients, Origin("local", client_name=source), parameters)
    details = record.envelope_details(envelope, len(octets))
    told = f"imported from {source}, where it was {found.name}"
    return Parcel(
        _number(found, source, received_at),
        (StoredPart(received_at, len(octets), record.encode(details), octets),),
        tuple(_waiting(number, one, found) for number, one in enumerate(recipients)),
        events=(EventPart(now, "operator", told, record.encode({})),),
    )


def _number(found: Foreign, source: str, received_at: float) -> int:
    digest = hashlib.sha256(f"{source} {found.name} {found.sender}".encode("utf-8", "surrogateescape")).digest()
    return first_number(received_at) | int.from_bytes(digest[:4], "big") & 0x1FFFFF


def _sender(text: str) -> Mailbox | NullPath:
    return _mailbox(text) if text else NullPath()


def _recipient(asked: Asked) -> Recipient:
    notify = Notify.UNSPECIFIED
    if asked.notify:
        notify = Notify.NEVER
        for word in asked.notify.split(","):
            notify |= Notify[word]
    return Recipient(_mailbox(asked.address), NextHop(""), RcptParameters(notify, asked.original_recipient))


def _mailbox(text: str) -> Mailbox:
    try:
        return parse_mailbox(text)
    except PathError as error:
        raise QueueFileError(f"{text!r} is no address: {error}") from None


def _waiting(number: int, one: Recipient, found: Foreign) -> RecipientPart:
    said = record.encode_parameters(one.parameters)
    return RecipientPart(
        number=number,
        address=record.address_of(one.forward_path),
        domain=record.domain_of(one.forward_path),
        next_hop="",
        parameters=said,
        attempts=0,
        delay_reported=found.warned,
        doubt="",
        due_at=0.0,
        priority=0,
        held=found.held,
        last_outcome="",
        pinned=False,
    )

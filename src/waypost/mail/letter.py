"""What a report says to a person: plain words, and no claim that goes further than what is known. Pure.

Where an attempt ended in doubt nothing here says "not delivered". Not here: the part for programs, and the message
around both (dsn.py).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final, assert_never

from waypost.mail.envelope import NotInDoubt, PossiblyAt, QueuedMessage
from waypost.mail.explain import plain
from waypost.mail.header import LINE, first_field, pieces
from waypost.mail.notification import Action, Notification, RecipientStatus, ToAuthor, ToPostmaster
from waypost.mail.trace import date


def headline(action: Action, recipients: Sequence[RecipientStatus]) -> str:
    """What the subject begins with."""
    match action:
        case Action.FAILED:
            return "Delivery not confirmed" if _any_in_doubt(recipients) else "Not delivered"
        case Action.DELAYED:
            return "Delivery not confirmed yet" if _any_in_doubt(recipients) else "Not delivered yet"
        case Action.DELIVERED:
            return "Delivered"
        case Action.RELAYED:
            return "Passed on"
        case Action.EXPANDED:
            return "Delivered to a list"
        case _:
            assert_never(action)


def letter(notification: Notification, header: bytes, note: str) -> str:
    """What happened, to whom, why, and what to do about it.

    `header` is the original's, as far as it is known; `note` says what of the original is attached. Lines end in LF.
    """
    action, recipients = notification.action, notification.recipients
    paragraphs = [f"This is the mail system at {notification.hostname}."]
    match notification.addressee:
        case ToAuthor():
            whose = "Your message"
        case ToPostmaster(because=because):
            whose = "A message"
            paragraphs.append(f"This report comes to you as the postmaster: {plain(because)}")
        case _:
            assert_never(notification.addressee)
    paragraphs.append(f"{whose} {_OPENINGS[action, _any_in_doubt(recipients)]}")
    paragraphs += [_about(action, recipient) for recipient in recipients]
    paragraphs.append(_about_message(notification.message, header, note))
    return "\n\n".join(_wrap(paragraph) for paragraph in paragraphs) + "\n"


def _any_in_doubt(recipients: Sequence[RecipientStatus]) -> bool:
    return any(isinstance(recipient.doubt, PossiblyAt) for recipient in recipients)


_KEPT: Final = "You need not send it again: this mail system keeps it and goes on trying."
_ASKED: Final = "You get this notice because you asked for it."
_DELIVERED: Final = f"was delivered to the recipients below. {_ASKED}"
_RELAYED: Final = (
    "was passed on to the mail systems of the recipients below. They do not send notices of delivery, so this may be "
    f"the last you hear of it. {_ASKED}"
)
_EXPANDED: Final = (
    "has reached the addresses below, each of which stands for several recipients, and goes on to them. You will hear "
    f"of those who cannot be reached, where you have asked for that, and of nobody else. {_ASKED}"
)
#: How the letter goes on after "Your message", by action and whether a recipient may hold a copy nobody confirmed.
_OPENINGS: Final = {
    (Action.FAILED, False): "could not be delivered to the recipients below. It will not be tried again.",
    (Action.FAILED, True): (
        "could not be delivered to the recipients below, or its delivery could not be confirmed; what holds is said "
        "beside each. It will not be tried again."
    ),
    (Action.DELAYED, False): f"has not been delivered to the recipients below yet. {_KEPT}",
    (Action.DELAYED, True): (
        "may have reached the recipients below, or some of them, but that is not confirmed yet; what holds is said "
        f"beside each. {_KEPT}"
    ),
    (Action.DELIVERED, False): _DELIVERED,
    (Action.DELIVERED, True): _DELIVERED,
    (Action.RELAYED, False): _RELAYED,
    (Action.RELAYED, True): _RELAYED,
    (Action.EXPANDED, False): _EXPANDED,
    (Action.EXPANDED, True): _EXPANDED,
}


def _about(action: Action, recipient: RecipientStatus) -> str:
    lines = [f"<{plain(str(recipient.forward_path))}>", f"    {plain(recipient.explanation)}"]
    said = plain(recipient.diagnostic).removeprefix("smtp; ")
    if said and action is not Action.EXPANDED:  # that was our own doing
        lines.append(f"    What the other server said: {said}")
    match recipient.doubt:
        case PossiblyAt(host) if action in {Action.FAILED, Action.DELAYED}:
            lines.append(
                f"    It may have arrived all the same: an earlier attempt sent the whole message to {plain(host)}, "
                "which did not confirm it. Ask the recipient before you send it again."
            )
        case PossiblyAt() | NotInDoubt():
            pass
        case _:
            assert_never(recipient.doubt)
    if action is Action.FAILED:
        lines.append(f"    What you can do: {_advice(recipient.status)}")
    if action is Action.DELAYED:
        lines.append(f"    It will be tried again until {date(int(recipient.retry_until))}.")
    return "\n".join(lines)


#: What the author of a failed message can do, by enhanced status (RFC 3463 §3) without its class; then by subject.
_ADVICE: Final = {
    "1.1": "check the address for a slip, or ask the recipient for the right one.",
    "1.2": "check what stands behind the @ for a slip: no mail server answers for that domain.",
    "1.6": "ask the recipient for the new address: the mailbox has moved.",
    "1.10": "use another address: that domain takes no mail.",
    "2.1": "reach the recipient another way: the mailbox is closed for now.",
    "2.2": "send it again later, or tell the recipient another way that the mailbox is full.",
    "2.3": "send a smaller message, or put the attachment where the recipient can fetch it.",
    "3.4": "send a smaller message, or put the attachment where the recipient can fetch it.",
    "4.7": "send it again later; if that fails too, tell the recipient another way that mail cannot get through.",
    "6.7": "use an address of the recipient that is written in ASCII letters only, if there is one.",
    "7.1": "ask the recipient, or the postmaster of that domain, to let your mail in.",
}
_ADVICE_BY_SUBJECT: Final = {
    "1": "check the address, and your own, for a slip.",
    "2": "reach the recipient another way: something is wrong with that mailbox.",
    "3": "ask the postmaster of the recipient's domain: its mail system cannot take this message.",
    "4": "send it again later; if that fails too, show this report to your postmaster.",
    "5": "show this report to your postmaster: the two mail systems did not understand each other.",
    "6": "send it in a simpler form: the other mail system cannot take this kind of content.",
    "7": "ask the postmaster of the recipient's domain why this mail is not let in; what the server said may tell.",
}


def _advice(status: str) -> str:
    subject_and_detail = status.partition(".")[2]
    subject = subject_and_detail.partition(".")[0]
    default = "show this report to your postmaster, who can read the technical details in it."
    return _ADVICE.get(subject_and_detail, _ADVICE_BY_SUBJECT.get(subject, default))


def _about_message(message: QueuedMessage, header: bytes, note: str) -> str:
    lines = [f"The message was received here on {date(int(message.received_at))} and is known here as {message.id}."]
    subject = first_field(header, b"subject")
    if subject and subject.isascii() and b"=?" not in subject:
        lines.append(f"Its subject: {plain(subject.decode())}")
    lines.append(note)
    return "\n".join(lines)


def _wrap(paragraph: str) -> str:
    return "\n".join(wrapped for line in paragraph.split("\n") for wrapped in _wrap_line(line))


def _wrap_line(line: str) -> list[str]:
    indent = line[: len(line) - len(line.lstrip(" "))]
    words = " ".join(piece for word in line.split() for piece in pieces(word))
    return textwrap.wrap(
        words,
        LINE,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )

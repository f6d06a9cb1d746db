"""Delivery that needs no host: into the inbox the service keeps, into nothing, or back as a refusal."""

from __future__ import annotations

from typing import Final

from waypost.deliver.fates import Fates
from waypost.mail.outcome import Delivered, Outcome, PolicyRefused, Rejected
from waypost.route.route import Reject
from waypost.smtp.reply import Reply

#: The queue keeps the copy when it settles (Gone.captured).
CAPTURED: Final = Delivered("the inbox that this service keeps", Reply.of(250, "2.0.0", "captured"), final=True)
DISCARDED: Final = Delivered("nobody, as the route says", Reply.of(250, "2.0.0", "discarded"), final=True)

EXPANDED: Final = Delivered(
    "the recipients that it stands for", Reply.of(250, "2.0.0", "expanded"), final=True, expanded=True
)


def refused(reject: Reject) -> Rejected:
    """What a `reject:` route makes of mail that is in the queue already."""
    return Rejected(
        PolicyRefused(f"the route refuses this address: {reject.reply}", reject.reply.status), reject.reply.status
    )


def suppressed(why: str, place: str) -> Delivered:
    """What becomes of an automatic reply on a route that wants none."""
    reply = Reply.of(250, "2.0.0", f"suppressed: {why}"[:400])
    return Delivered(f"nobody, as the route suppresses automatic replies ({place})", reply, final=True)


def record_all(fates: Fates, outcome: Outcome) -> None:
    """The same outcome for every recipient that has none."""
    for recipient in fates.open():
        fates.record(recipient, outcome)

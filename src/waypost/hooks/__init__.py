"""Hooks: what a user's Python module may decide about mail on its way. This is their whole interface.

A module that `[[hook]]` names defines any of these coroutines; each gets one frozen value and returns a verdict:

    async def connect(event: Connect) -> Pass | Refuse | Defer            before the banner
    async def mail(event: MailFrom) -> Pass | Refuse | Defer              at MAIL
    async def rcpt(event: RcptTo) -> Pass | Refuse | Defer | Redirect     at RCPT, before it is looked up
    async def route(event: Routing) -> Pass | Refuse | Defer | Via        at RCPT, when its route is known
    async def data(event: Data) -> Pass | Refuse | Defer | Change         at the final dot, before the commit
    async def before_delivery(event: Delivery) -> Pass | Refuse | Defer   before each attempt
    async def after_outcome(event: Ended) -> None                         after each attempt is written down

and `def configure(settings: Mapping[str, object]) -> None`, where it has settings of its own. A hook that raises,
overruns its budget or returns something else defers that message, and no other; log and reply name it.
"""

from waypost.hooks.values import (
    Change,
    Client,
    Connect,
    Data,
    Defer,
    Delivery,
    Ended,
    MailFrom,
    Message,
    Pass,
    RcptTo,
    Redirect,
    Refuse,
    Routing,
    Via,
)

__all__ = [
    "Change",
    "Client",
    "Connect",
    "Data",
    "Defer",
    "Delivery",
    "Ended",
    "MailFrom",
    "Message",
    "Pass",
    "RcptTo",
    "Redirect",
    "Refuse",
    "Routing",
    "Via",
]

"""From `[notices]` to who is told of what; what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from waypost.config.model import Notices, Route
from waypost.config.sections import Found, Reader
from waypost.route.target import RecipientMx
from waypost.smtp.path import Mailbox

CLASSES = ("bounces", "delays", "policy", "resources", "protocol", "auth")


def check_notices(sections: Sequence[Notices], routes: Sequence[Found[Route]], reader: Reader) -> None:
    """The fallback is a route with a next hop of its own, and there is somebody to tell."""
    for section in sections:
        for key in _said(section) if not any(recipients_of(section).values()) else ():
            reader.complain(("notices", key), "there is nobody to tell", 'Write to = ["admin@example.net"]')
        named = [found.section for found in routes if found.section.name == section.route]
        if section.route and (not named or isinstance(named[0].to, RecipientMx)):
            reader.complain(
                ("notices", "route"),
                f"no route with a next hop of its own has the name {section.route!r}",
                'Write a [[route]] with that name, such as to = "smtp://192.0.2.1:25"',
            )


def _said(section: Notices) -> Sequence[str]:
    """The keys that differ from their defaults."""
    plain = Notices()
    return [key for key in Notices.model_fields if getattr(section, key) != getattr(plain, key)]


def recipients_of(section: Notices) -> Mapping[str, tuple[Mailbox, ...]]:
    """Who is told of each class."""
    return {of: tuple(dict.fromkeys((*section.to, *getattr(section, of)))) for of in CLASSES}

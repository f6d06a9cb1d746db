"""Whether a message that is submitted names its author rightly: From and Sender, held against the account (RFC 6409).

Not here: the reverse-path (session.py), and adding fields (completion.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import getaddresses
from enum import Enum
from typing import Final, TypeAlias

from waypost.auth.account import Account
from waypost.mail.header import first_field
from waypost.smtp.command import REFUSAL_WIDTH
from waypost.smtp.path import Mailbox, PathError, ReversePath, parse_mailbox
from waypost.smtp.reply import Reply


class FromField(Enum):
    """What becomes of a message whose From is not its account's."""

    ANY = "any"  # it is taken as it is
    SENDER = "sender"  # a Sender field tells whose it is (RFC 6409 §8.1)
    REFUSE = "refuse"  # 554 (RFC 6409 §6.1 and §5.1)


@dataclass(frozen=True, slots=True)
class Author:
    """Who submits, by whose rules."""

    account: Account
    reverse_path: ReversePath
    rule: FromField


@dataclass(frozen=True, slots=True)
class NoAuthor:
    """Nobody's rules: who has not logged in, or where any From will do."""


@dataclass(frozen=True, slots=True)
class Good:
    """The message may go as it is."""


@dataclass(frozen=True, slots=True)
class AddSender:
    """It may go with this field in front."""

    field: bytes


Authorship: TypeAlias = Good | AddSender | Reply

_GOOD: Final = Good()
_NO_FROM: Final = Reply.of(554, "5.6.0", "a message that is submitted here has a From field with an address (RFC 5322)")
_UNJUDGED: Final = Reply.of(554, "5.6.0", "the header is too long for its From field to be looked for")


def judge_author(header: bytes, author: Author | NoAuthor, *, whole: bool) -> Authorship:
    """What the header makes of a message. `whole`: the header is all there."""
    if isinstance(author, NoAuthor) or author.rule is FromField.ANY:
        return _GOOD
    senders, writers = _addresses(header, b"sender"), _addresses(header, b"from")
    if author.rule is FromField.REFUSE and not whole:
        return _UNJUDGED
    if author.rule is FromField.REFUSE and not writers:
        return _NO_FROM
    foreign = [address for address in senders or writers if not _is_own(address, author.account)]
    if not foreign:
        return _GOOD
    if author.rule is FromField.REFUSE:
        text = f"<{foreign[0]}> is no address of {author.account.name}"
        return Reply.of(554, "5.7.1", text.encode("ascii", "backslashreplace").decode()[:REFUSAL_WIDTH])
    own = author.reverse_path
    # One that names another already is somebody's word on who sent it before: it stays (RFC 6409 §8.1).
    return AddSender(f"Sender: {own}\r\n".encode()) if isinstance(own, Mailbox) and not senders else _GOOD


def _addresses(header: bytes, name: bytes) -> Sequence[str]:
    text = first_field(header, name).decode("utf-8", "replace")
    return [address for _, address in getaddresses([text]) if address]


def _is_own(address: str, account: Account) -> bool:
    try:
        return account.may_use(parse_mailbox(address))
    except PathError:
        return False

"""One transaction of a client: what is to be said, and how far it has come.

Replies are taken in step: each belongs to a `Command` that was said, with the recipient it concerns.

Not here: when something is said (client.py), what a reply's first digit means (stage.py), and what a message becomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from waypost.smtp.command import Mail, Rcpt
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.event import Asked, ClientEvent, DataAnswered, DotAnswered, MailAnswered, RcptAnswered
from waypost.smtp.extension import Extensions, MailParameters, RcptParameters
from waypost.smtp.path import ForwardPath, ReversePath, is_ascii
from waypost.smtp.reply import Reply
from waypost.smtp.stage import Stage

#: One group of pipelined commands (RFC 2920 §3.1): while it is written nobody reads, so its replies must fit the
#: peer's send window and ours. 16 KiB out and some 100 replies back fit the smallest default socket buffers.
GROUP_COMMANDS: Final = 100
GROUP_OCTETS: Final = 16 * 1024

#: A command of a transaction: the stage of its reply, the index of the recipient it concerns, and its line.
Command: TypeAlias = tuple[Stage, int, str]
#: The index of what concerns no recipient: MAIL, DATA, RSET, and the final dot for all.
ALL: Final = -1
#: The index of the reply to a lone dot, which ends a DATA that came too late to be taken back; nothing depends on it.
LONE_DOT: Final = -2
#: The index of the reply, behind those to each recipient, that tells of the message as a whole (PRDR).
WHOLE: Final = -3
#: "Judged for each recipient" (draft-hall-prdr-00): their replies follow, and one for the whole.
ANALYSIS: Final = 353
#: In place of a chunk's size: the body goes by DATA.
_NO_CHUNK: Final = -1


@dataclass(frozen=True, slots=True)
class Transaction:
    """One MAIL with its recipients, at least one. Parameters the peer did not offer are left out by the session.

    `chunked`: the body goes by BDAT, which the peer must offer; `parameters.size` is then its exact size.
    """

    reverse_path: ReversePath
    parameters: MailParameters
    recipients: Sequence[tuple[ForwardPath, RcptParameters]]
    chunked: bool = False

    @property
    def has_wide_addresses(self) -> bool:
        """Whether an address is not ASCII."""
        return not (is_ascii(self.reverse_path) and all(is_ascii(path) for path, _ in self.recipients))


class Progress:
    """How far a transaction has come: what is still unsaid, and whom the server has accepted."""

    def __init__(self) -> None:
        self.unsaid: list[Command] = []
        self.mail_taken = False
        self.accepted: list[int] = []
        self._prdr = False
        self._passed: list[int] = []  # recipients for whom the message will do (PRDR)
        self.chunk_size = _NO_CHUNK

    def begin(self, transaction: Transaction, offered: Extensions, *, lmtp: bool) -> None:
        """Take up `transaction`. Raises: LocalProtocolError, where an address is not ASCII and SMTPUTF8 not offered."""
        parameters = transaction.parameters
        mail = Mail(transaction.reverse_path, parameters).line(offered)
        rcpts = [Rcpt(forward_path, own).line(offered) for forward_path, own in transaction.recipients]
        if not "".join((mail, *rcpts)).isascii():  # an address: parameters always are (xtext)
            if "SMTPUTF8" not in offered:
                raise LocalProtocolError("an address is not ASCII, and the peer does not offer SMTPUTF8")
            mail = Mail(transaction.reverse_path, replace(parameters, smtputf8=True)).line(offered)
        self.unsaid = [
            (Stage.MAIL, ALL, mail),
            *[(Stage.RCPT, index, line) for index, line in enumerate(rcpts)],
            *(() if transaction.chunked else ((Stage.DATA, ALL, "DATA"),)),
        ]
        self.mail_taken = False
        self.accepted = []
        self.chunk_size = parameters.size if transaction.chunked else _NO_CHUNK
        self._prdr = parameters.prdr and "PRDR" in offered and not lmtp

    def next_group(self, most: int) -> list[Command]:
        """What may be said before the next replies: `most` commands, or as many of them as one group holds."""
        commands = octets = 0
        for _, _, line in self.unsaid[:most]:
            if octets >= GROUP_OCTETS:
                break
            commands += 1
            octets += len(line)
        group = self.unsaid[:commands]
        del self.unsaid[:commands]
        return group

    @property
    def may_go_on(self) -> bool:
        """Whether the rest of the transaction is worth saying: MAIL was taken, and DATA has somebody to go to."""
        if not self.unsaid or not self.mail_taken:
            return False
        return self.unsaid[0][0] is Stage.RCPT or bool(self.accepted)

    def end(self, *, lmtp: bool) -> list[Command]:
        """What the end of the body says, once for each reply to it."""
        said = "." if self.chunk_size == _NO_CHUNK else f"BDAT {self.chunk_size} LAST"
        return [(Stage.DOT, index, said) for index in self.accepted] if lmtp else [(Stage.DOT, ALL, said)]

    def parted(self, command: Command, reply: Reply) -> list[Command]:
        """Where `reply` says that each recipient is judged for itself (PRDR): what their replies will answer."""
        stage, index, said = command
        if not self._prdr or reply.code != ANALYSIS or (stage, index) != (Stage.DOT, ALL) or len(self.accepted) < 2:
            return []
        self._passed = []
        return [(Stage.DOT, one, said) for one in (*self.accepted, WHOLE)]

    def tell(self, stage: Stage, index: int, reply: Reply, taken: bool, events: list[ClientEvent]) -> None:  # noqa: FBT001 - the reply's meaning
        """Add the event of one reply to `events`. After a refused MAIL the rest of its group says nothing new."""
        match stage:
            case Stage.MAIL:
                self.mail_taken = taken
                events.append(MailAnswered(reply))
            case Stage.RCPT if self.mail_taken:
                if taken:
                    self.accepted.append(index)
                events.append(RcptAnswered(index, reply))
            case Stage.DATA if self.mail_taken:
                events.append(DataAnswered(reply, body_due=taken and bool(self.accepted)))
            case Stage.DOT if self._prdr and index >= 0 and taken:
                self._passed.append(index)  # nothing is delivered before the last reply
            case Stage.DOT:
                of_many = {ALL: self.accepted, WHOLE: self._passed}
                events.append(DotAnswered(reply, tuple(of_many.get(index, (index,)))))
            case Stage.ASKED:
                events.append(Asked(reply))
            case _:
                pass

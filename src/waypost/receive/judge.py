"""What is answered at MAIL, DATA and the final dot. Pure.

Not here: what a command must look like (waypost.smtp), and which recipients are taken (waypost.policy).
"""

from __future__ import annotations

from typing import Final

from waypost.net.clock import Instant
from waypost.queue.storage import StoreFault, StoreFaultKind
from waypost.smtp.body import BodyFault
from waypost.smtp.command import REFUSAL_WIDTH
from waypost.smtp.extension import MailParameters
from waypost.smtp.path import ReversePath
from waypost.smtp.reply import Reply

OK_MAIL: Final = Reply.of(250, "2.1.0", "OK")
#: RFC 6710 §4.4 and §9: who may not relay through us may put his mail behind that of others, but not before it.
LOWERED: Final = Reply.of(250, "2.3.6", "OK, with priority 0")
HELD_TOO_LONG: Final = Reply.of(501, "5.5.4", "a message is not held for so long here; see FUTURERELEASE")
LATE_ALREADY: Final = Reply.of(501, "5.5.4", "BY is over before the message is released")
NO_SUCH_ACCOUNT: Final = Reply.of(550, "5.7.1", "LOGIN names no account here")
NOT_SERVED: Final = Reply.of(421, "4.7.1", "ADDR names a client that is not served here")
TURNED_ROUND: Final = Reply.of(250, "2.0.0", "OK, the connection is turned round: greet with 220")
SEND_BODY: Final = Reply(354, ("end with a dot on a line of its own",))
BEGIN_TLS: Final = Reply.of(220, "2.0.0", "begin the TLS handshake")
NO_TLS_NOW: Final = Reply.of(454, "4.7.0", "TLS not available due to temporary reason")
LOGIN_FIRST: Final = Reply.of(530, "5.7.0", "authentication required")
TOO_MANY_MESSAGES: Final = Reply.of(421, "4.7.0", "enough messages in one session; connect again for more")
TOO_LATE_FOR_ROUTE: Final = Reply.of(550, "5.4.7", "this recipient's way opens only when BY is over")
TOO_LARGE_FOR_ROUTE: Final = Reply.of(552, "5.3.4", "the message is larger than this recipient's way takes")
TOO_MANY_RECIPIENTS: Final = Reply.of(452, "4.5.3", "the recipients stand for too many; send to the rest separately")
#: An error of ours: nothing is stored, and the client keeps the message (RFC 5321 §4.2.5).
LOCAL_ERROR: Final = Reply.of(451, "4.3.0", "local error in processing; try again later")
NO_MEMORY: Final = Reply.of(452, "4.3.1", "no memory to show the message to a hook; try again later")
SPOOL_FULL: Final = Reply.of(452, "4.3.1", "no space to store the message; try again later")
NOT_STORED: Final = Reply.of(451, "4.3.0", "the message could not be stored; try again later")
LOOPING: Final = Reply.of(554, "5.4.6", "too many Received lines: the message goes in circles")

_BODY_REPLIES: Final = {
    BodyFault.BARE_NEWLINE: Reply.of(550, "5.6.0", "a CR or LF stands alone; lines end in CRLF (RFC 5321 2.3.8)"),
    BodyFault.TOO_LARGE: Reply.of(552, "5.3.4", "the message is larger than the SIZE offered"),
    BodyFault.LINE_TOO_LONG: Reply.of(550, "5.6.0", "a line of the message is too long"),
    BodyFault.NUL: Reply.of(550, "5.6.0", "the message holds a NUL octet"),
}


def not_yours(account: str, path: ReversePath) -> Reply:
    """The reply to MAIL with a reverse-path that the account may not use."""
    text = f"<{path}> is no reverse-path of {account}".encode("ascii", "backslashreplace").decode()
    return Reply.of(553, "5.7.1", text[:REFUSAL_WIDTH])


def judge_body(fault: BodyFault) -> Reply:
    """The reply to a body that has a fault (not NONE)."""
    return _BODY_REPLIES[fault]


def release_of(parameters: MailParameters, now: Instant) -> Instant:
    """When a message is to be released that its client wants held (RFC 4865 §4); 0.0 where it does not."""
    return now + parameters.hold_for if parameters.hold_for else float(parameters.hold_until)


def judge_fault(fault: StoreFault) -> Reply:
    """The reply to a message that the storage did not take."""
    return SPOOL_FULL if fault.kind is StoreFaultKind.FULL else NOT_STORED

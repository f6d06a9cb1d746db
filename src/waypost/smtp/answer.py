"""The replies that a server's session gives by itself: to syntax, order, limits, and commands nobody else need hear of.

Not here: when each is given (order.py, request.py, patience.py, server.py), nor the replies of policy, which are the
caller's, nor those that say what was wrong with a parameter, which its parser words (command.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from waypost.smtp.framing import LineFault
from waypost.smtp.reply import Reply


def _due(sentence: str) -> Reply:
    return Reply.of(503, "5.5.1", sentence)


# ---- to a command out of its order (RFC 5321 §4.1.4)
HELLO_DUE: Final = _due("say EHLO or HELO first")
MAIL_DUE: Final = _due("say MAIL first")
RCPT_DUE: Final = _due("no valid recipients: say RCPT first")  # the code is RFC 2033 §4.2's; SMTP may use it too
IN_TRANSACTION: Final = _due("a transaction is open: say RCPT, DATA or RSET")
TOO_LATE: Final = _due("a transaction is open: say RSET first")
QUIT_DUE: Final = _due("no service here: say QUIT")
CHUNK_DUE: Final = _due("the message comes in chunks: say BDAT or RSET (RFC 3030)")
CHUNK_LOST: Final = _due("no transaction takes this chunk: say RSET")
NO_DATA: Final = _due("a message of BODY=BINARYMIME comes in chunks: say BDAT (RFC 3030)")
UNDER_TLS: Final = Reply.of(503, "5.5.1", "TLS is on already")
NOT_OFFERED: Final = Reply.of(502, "5.5.1", "not offered here")
TLS_DUE: Final = Reply.of(530, "5.7.0", "Must issue a STARTTLS command first")
SPOKE_TOO_SOON: Final = Reply.of(554, "5.5.0", "wait for the reply before you say more (RFC 2920)")

# ---- to one that nobody knows, or that was written wrong
UNKNOWN: Final = Reply.of(500, "5.5.2", "no such command")
NO_ARGUMENT: Final = Reply.of(501, "5.5.4", "this command takes no argument")
NOT_SMTP: Final = Reply.of(554, "5.5.0", "this is a mail server")
LINE_REPLIES: Final[Mapping[LineFault, Reply]] = {
    LineFault.OVER_LONG: Reply.of(500, "5.5.6", "line too long"),
    LineFault.FLOOD: Reply.of(421, "4.7.0", "line without end"),
    LineFault.BARE_NEWLINE: Reply.of(500, "5.5.2", "a command ends in CRLF, and holds no CR or LF else"),
    LineFault.CONTROL: Reply.of(500, "5.5.2", "control characters in a command"),
    LineFault.NOT_UTF8: Reply.of(500, "5.5.2", "a command is ASCII, or UTF-8 with SMTPUTF8"),
}

# ---- to AUTH (RFC 4954 §4, §6) and ATRN (RFC 2645 §5.2.1)
TLS_FIRST: Final = Reply.of(538, "5.7.11", "encryption required for authentication: say STARTTLS first")
LOGIN_DUE: Final = Reply.of(530, "5.7.0", "authentication required")
AUTHENTICATED: Final = _due("authenticated already; say QUIT to be another")
NO_SUCH_MECHANISM: Final = Reply.of(504, "5.5.4", "no such mechanism here: see the reply to EHLO")
RESPONSE_TOO_LONG: Final = Reply.of(500, "5.5.6", "authentication exchange line is too long")
NO_RESPONSE: Final = Reply.of(501, "5.5.2", "that is not base64")

# ---- to what is in order
OK: Final = Reply.of(250, "2.0.0", "OK")
HELP: Final = Reply.of(214, "2.0.0", "RFC 5321: EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP")
#: No enhanced status code: RFC 2034 §4 knows none of a 3yz.
ANALYSIS: Final = Reply(353, ("the message is judged for each recipient",))

# ---- where a limit is reached
TOO_MANY_RECIPIENTS: Final = Reply.of(452, "4.5.3", "too many recipients; send the rest in another transaction")
TOO_MANY_DOMAINS: Final = Reply.of(452, "4.5.3", "too many domains; send to the rest in another transaction")
TOO_MANY_ERRORS: Final = Reply.of(421, "4.7.0", "too many errors")
TOO_MANY_REFUSALS: Final = Reply.of(421, "4.7.0", "too many refused commands")
TOO_IDLE: Final = Reply.of(421, "4.7.0", "too many commands without a message")

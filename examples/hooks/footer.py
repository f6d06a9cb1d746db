"""A footer under every text that leaves, as the body footer sample of 1999 did, but with what it never asked about.

Settings: `text`, the footer; `senders`, the domains whose mail gets it; `marker`, a field that says it is there already
(mail that comes back gets one footer).
Signed and encrypted mail, calendars and reports stay as they are: a footer would break them.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

from waypost.hooks import Change, Data, Pass

SETTINGS = {"text": "", "marker": "X-Footer"}
SENDERS: set[str] = set()
#: Kinds of messages that nobody may change.
LEFT_ALONE = {"multipart/signed", "multipart/encrypted", "multipart/report", "application/pkcs7-mime", "text/calendar"}


def configure(settings: Mapping[str, object]) -> None:
    """Take over what the configuration says."""
    SETTINGS.update({key: str(value) for key, value in settings.items() if key in SETTINGS})
    domains = settings.get("senders", ())
    SENDERS.clear()
    if isinstance(domains, list | tuple):
        SENDERS.update(str(domain).lower() for domain in domains)


async def data(event: Data) -> Pass | Change:
    """Add the footer to the first text and the first HTML."""
    if str(event.reverse_path).rpartition("@")[2].lower() not in SENDERS:
        return Pass()
    message = message_from_bytes(event.message.octets, _class=EmailMessage, policy=SMTP)
    if message[SETTINGS["marker"]] or any(part.get_content_type() in LEFT_ALONE for part in message.walk()):
        return Pass()
    parts = list(_texts(message))
    if not parts:
        return Pass()
    for part in parts:
        _append(part)
    whole = message.as_bytes()
    header, _, body = whole.partition(b"\r\n\r\n")
    kept = tuple(name for name in ("Content-Type", "Content-Transfer-Encoding", "MIME-Version") if message[name])
    return Change(
        remove=kept,
        add=((SETTINGS["marker"], "yes"), *((name, " ".join(str(message[name]).split())) for name in kept)),
        body=body if header else b"",
    )


def _texts(message: EmailMessage) -> Iterator[EmailMessage]:
    """The first text/plain and the first text/html that are shown, and no attachment."""
    found = set()
    for part in message.walk():
        kind = part.get_content_type()
        shown = part.get_content_disposition() != "attachment"
        if kind in {"text/plain", "text/html"} and shown and kind not in found and isinstance(part, EmailMessage):
            found.add(kind)
            yield part


def _append(part: EmailMessage) -> None:
    subtype = part.get_content_subtype()
    text = part.get_content().replace("\r\n", "\n").rstrip("\n")
    if subtype == "html":
        line = f"<p>{html.escape(SETTINGS['text'])}</p>"
        before, end, after = text.rpartition("</body>")
        text = f"{before}{line}{end}{after}" if end else f"{text}\n{line}"
    else:
        text = f"{text}\n\n-- \n{SETTINGS['text']}"
    part.set_content(text + "\n", subtype=subtype)

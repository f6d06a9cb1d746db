"""How text stands in a parameter of MAIL and RCPT: xtext (RFC 3461 §4), and the form that RFC 6533 §3 has beyond ASCII.

Not here: which parameter is written so, and how long it may be (extension.py).
"""

from __future__ import annotations

import re
from typing import Final

_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEX_PAIR: Final = re.compile(r"\+([0-9A-F]{2})")
_TO_ENCODE: Final = re.compile(r"[^!-*,-<>-~]")
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_TO_EMBED: Final = re.compile(r"[^!-*,-<>-\[\]-~]")


def encode_xtext(text: str) -> str:
    """Printable ASCII `text` as xtext. Raises: ValueError, where it holds anything else: xtext has no form for it."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError(f"{text!r} is not printable ASCII, so it has no xtext form (RFC 3461 §4)")
    return _TO_ENCODE.sub(lambda found: f"+{ord(found[0]):02X}", text)


def decode_xtext(text: str) -> str:
    """What the xtext `text` stands for. Raises: ValueError, where it is none, or hides a control character.

    A CR LF in it would else become a header of our own making in a DSN.
    """
    if not _XTEXT.fullmatch(text):
        raise ValueError(f"{text!r} is not xtext (RFC 3461 §4)")
    decoded = _HEX_PAIR.sub(lambda found: chr(int(found[1], 16)), text)
    if not (decoded.isascii() and decoded.isprintable()):
        raise ValueError(f"{text!r} encodes more than printable ASCII")
    return decoded


def encode_utf8_address(text: str) -> str:
    """`utf-8-addr-xtext` of RFC 6533 §3: ASCII only, so it may go to any peer that has DSN."""
    return _TO_EMBED.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", text)


def decode_utf8_address(text: str) -> str:
    """What it stands for; UTF-8 itself is taken too. Raises: ValueError, where it hides a control character."""
    decoded = _EMBEDDED.sub(lambda found: chr(min(int(found[1], 16), 0x10FFFF)), text)
    if not decoded.isprintable():
        raise ValueError(f"{text!r} encodes a control character")
    return decoded

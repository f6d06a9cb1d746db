"""Content made over as a route wishes: attachments of older programs, character sets, line lengths; or left as is."""

from __future__ import annotations

import binascii
import struct
from contextlib import suppress
from email import message_from_bytes
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.attachments import UndecodableError, from_binhex, from_tnef, from_uuencode, texts_of
from waypost.mail.content import NO_WISHES, Wishes, automatic_reply, make_over

DATA = bytes(range(256)) * 3
ALL = Wishes(tnef=True, uuencode=True, binhex=True, charset="utf-8", wrap=60)


def uuencoded(data: bytes, name: str = "a file.bin") -> str:
    lines = [binascii.b2a_uu(data[at : at + 45]).decode() for at in range(0, len(data), 45)]
    return f"begin 644 {name}\n{''.join(lines)}`\nend\n"


def tnef(name: str, data: bytes) -> bytes:
    """A winmail.dat of one file: signature, key, then attributes of level, number, length, octets and their sum."""

    def attribute(level: int, number: int, octets: bytes) -> bytes:
        return struct.pack("<BII", level, number, len(octets)) + octets + struct.pack("<H", sum(octets) & 0xFFFF)

    return (
        struct.pack("<IH", 0x223E9F78, 1)
        + attribute(1, 0x00089006, struct.pack("<I", 0x00010000))
        + attribute(2, 0x00069002, b"\x01\x00" + bytes(12))
        + attribute(2, 0x00018010, name.encode() + b"\0")
        + attribute(2, 0x0006800F, data)
    )


def binhex(name: str, data: bytes, resource: bytes = b"") -> str:
    digits = "!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
    header = bytes([len(name)]) + name.encode() + b"\0TEXTttxt\0\0" + struct.pack(">II", len(data), len(resource))
    whole = b"".join(part + struct.pack(">H", binascii.crc_hqx(part, 0)) for part in (header, data, resource))
    rolled = whole.replace(b"\x90", b"\x90\x00")
    bits = "".join(f"{octet:08b}" for octet in rolled)
    bits += "0" * (-len(bits) % 6)
    text = ":" + "".join(digits[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6)) + ":"
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "(This file must be converted with BinHex 4.0)\n\n" + "\n".join(lines) + "\n"


def letter(body: str | bytes, kind: str = 'text/plain; charset="utf-8"', encoding: str = "8bit") -> bytes:
    octets = body if isinstance(body, bytes) else body.encode()
    head = (
        f"Received: from x by y; now\r\nDKIM-Signature: v=1;\r\n a=b\r\nSubject: hello\r\nContent-Type: {kind}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\nMIME-Version: 1.0\r\n\r\n"
    )
    return head.encode() + octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def parts(octets: bytes) -> list[Message]:
    return [part for part in message_from_bytes(octets).walk() if not part.is_multipart()]


def test_a_uuencoded_file_in_a_text_becomes_an_attachment() -> None:
    made = make_over(letter(f"Look:\n{uuencoded(DATA)}Bye\n"), Wishes(uuencode=True))
    text, file = parts(made.octets)
    assert text.get_payload(decode=True) == b"Look:\r\nBye\r\n"
    assert (file.get_filename(), file.get_payload(decode=True)) == ("a file.bin", DATA)
    assert made.notes == ("attachments in a text were made parts: a file.bin",)
    assert b"DKIM-Signature: v=1;\r\n a=b\r\nSubject: hello\r\n" in made.octets
    assert b"\n" not in made.octets.replace(b"\r\n", b"")


def test_a_binhex_file_in_a_text_becomes_an_attachment() -> None:
    made = make_over(letter(f"Look:\n{binhex('picture.gif', DATA)}Bye\n"), Wishes(binhex=True))
    text, file = parts(made.octets)
    assert text.get_payload(decode=True) == b"Look:\r\nBye\r\n"
    assert (file.get_filename(), file.get_content_type()) == ("picture.gif", "image/gif")
    assert file.get_payload(decode=True) == DATA


def test_an_attached_binhex_file_is_taken_out() -> None:
    octets = letter(binhex("picture.gif", DATA), "application/mac-binhex40", "7bit")
    (file,) = parts(make_over(octets, Wishes(binhex=True)).octets)
    assert file.get_payload(decode=True) == DATA


def test_winmail_dat_is_taken_apart() -> None:
    inner = binascii.b2a_base64(tnef("report.pdf", DATA)).decode()
    made = make_over(letter(inner, "application/ms-tnef; name=winmail.dat", "base64"), Wishes(tnef=True))
    (file,) = parts(made.octets)
    assert (file.get_filename(), file.get_content_type()) == ("report.pdf", "application/pdf")
    assert file.get_payload(decode=True) == DATA
    assert made.notes == ("winmail.dat was taken apart: report.pdf",)


def test_a_broken_winmail_dat_stays_as_it_came_and_is_told() -> None:
    octets = letter("AAAA", "application/ms-tnef", "base64")
    made = make_over(octets, Wishes(tnef=True))
    assert made.octets == octets
    assert made.notes[0].startswith("winmail.dat stays as it came: it cannot be read")


def test_a_text_is_written_in_the_character_set_wished_for() -> None:
    made = make_over(letter("Grüße\n"), Wishes(charset="iso-8859-1"))
    (text,) = parts(made.octets)
    assert text.get_content_charset() == "iso-8859-1"
    assert text.get_payload(decode=True) == "Grüße\r\n".encode("iso-8859-1")
    assert made.octets.isascii()
    assert made.notes == ("a text in utf-8 is written in iso-8859-1",)


def test_a_text_with_other_characters_stays_in_its_own_set() -> None:
    octets = letter("Grüße, 你好\n")
    made = make_over(octets, Wishes(charset="iso-8859-1"))
    assert made.octets == octets
    assert made.notes == ("a text stays in utf-8: iso-8859-1 has no '你'",)


def test_a_text_that_is_not_what_it_says_stays_as_it_came() -> None:
    octets = letter(b"Gr\xfc\xdfe\n")
    made = make_over(octets, Wishes(charset="iso-8859-1"))
    assert made.octets == octets
    assert made.notes == ("a text stays as it came: it is not utf-8, which it says it is",)


def test_long_lines_are_wrapped_at_blanks_but_not_quotations_nor_flowed_text() -> None:
    words = "word " * 30
    (text,) = parts(make_over(letter(f"{words}\n> {words}\n{'x' * 90}\n"), Wishes(wrap=40)).octets)
    lines = bytes(text.get_payload(decode=True)).decode().splitlines()
    assert max(len(line) for line in lines if not line.startswith((">", "x"))) <= 40
    assert f"> {words}" in lines
    assert "x" * 90 in lines
    flowed = letter(f"{words}\n", 'text/plain; charset="utf-8"; format=flowed')
    assert make_over(flowed, Wishes(wrap=40)).octets == flowed


def test_what_is_signed_or_encrypted_stays_as_it_came() -> None:
    for kind in ('multipart/signed; boundary="b"', "application/pkcs7-mime"):
        octets = letter(f"--b\n\n{uuencoded(DATA)}\n--b--\n", kind, "7bit")
        made = make_over(octets, ALL)
        assert made.octets is octets
        assert "may not be changed" in made.notes[0]


def test_a_message_without_anything_to_change_is_the_same_octets() -> None:
    octets = letter("Hello\n", "text/plain; charset=us-ascii", "7bit")
    assert make_over(octets, ALL).octets is octets
    assert make_over(octets, ALL).notes == ()


@given(st.binary(max_size=400))
def test_no_octets_break_it(octets: bytes) -> None:
    make_over(octets, ALL)
    make_over(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" + octets + b"\r\n--a--\r\n", ALL)
    make_over(letter(octets), ALL)


@given(st.binary(max_size=600), st.text("abc.txt \\/é", min_size=1, max_size=20))
def test_what_is_uuencoded_comes_back(data: bytes, name: str) -> None:
    text, found = texts_of(f"a\n{uuencoded(data, name)}b\n", uuencode=True, binhex=False)
    assert text == "a\nb\n"
    assert found[0].octets == data
    assert "/" not in found[0].name
    assert "\\" not in found[0].name


@given(st.binary(max_size=600))
def test_what_is_in_binhex_comes_back(data: bytes) -> None:
    assert from_binhex(binhex("x", data).encode()).octets == data


@given(st.binary(max_size=200))
def test_what_is_none_of_them_is_told(octets: bytes) -> None:
    for read in (from_tnef, from_binhex, lambda found: from_uuencode(found.decode("latin-1"))):
        with suppress(UndecodableError):
            read(octets)


def test_a_damaged_binhex_file_is_not_taken() -> None:
    text = binhex("x", DATA)
    damaged = text[:80] + ("!" if text[80] != "!" else "#") + text[81:]
    with pytest.raises(UndecodableError):
        from_binhex(damaged.encode())
    assert texts_of(damaged, uuencode=False, binhex=True) == (damaged, [])


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"Auto-Submitted: auto-replied (vacation)\r\n", "Auto-Submitted: auto-replied (vacation)"),
        (b"Precedence: auto_reply\r\n", "Precedence: auto_reply"),
        (b"X-Autoreply: yes\r\n", "x-autoreply: yes"),
        (b"Auto-Submitted: no\r\n", ""),
        (b"Auto-Submitted: auto-generated\r\n", ""),
        (b"Subject: Out of office\r\n", ""),
        (b"Auto-Submitted: auto-replied\r\nContent-Type: multipart/report; report-type=delivery-status\r\n", ""),
    ],
)
def test_automatic_replies_are_known_by_their_header_and_reports_are_none(header: bytes, why: str) -> None:
    assert automatic_reply(header) == why


def test_no_wishes_are_none() -> None:
    assert not NO_WISHES
    assert ALL


def test_a_binhex_file_with_a_resource_fork_stays_as_it_came_and_a_note_says_so() -> None:
    octets = letter(binhex("an old program", DATA, b"code"), "application/mac-binhex40", "7bit")
    made = make_over(octets, Wishes(binhex=True))
    assert made.octets == octets
    assert any("it has a resource fork, which would be lost" in note for note in made.notes)

"""A message made fit for a narrower way: what is decoded of it stays the same, whatever it was."""

from __future__ import annotations

from contextlib import suppress
from email import message_from_bytes
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.convert import UnconvertibleError, Way, convert, passes

LETTER = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n{}\r\n{}".format


def leaves(octets: bytes) -> list[bytes]:
    """What each part decodes to, as the standard library has it."""
    whole: Message[str, str] = message_from_bytes(octets)
    return [_decoded(part) for part in whole.walk() if not part.is_multipart()]


def _decoded(part: Message[str, str]) -> bytes:
    decoded = part.get_payload(decode=True)
    assert isinstance(decoded, bytes)
    return decoded


def test_text_goes_in_quoted_printable_and_everything_else_stays() -> None:
    letter = LETTER("Content-Transfer-Encoding: 8bit\r\nX-Last: y\r\n", "Grüße =)\r\n.\r\n").encode()
    assert convert(letter, Way.SEVEN_BIT) == (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\nX-Last: y\r\n\r\nGr=C3=BC=C3=9Fe =3D)\r\n=2E\r\n"
    )


def test_what_passes_is_not_touched() -> None:
    letter = LETTER("", "Hello\r\n").encode()
    assert convert(letter, Way.SEVEN_BIT) is letter
    wide = LETTER("", "Grüße\r\n").encode()
    assert convert(wide, Way.EIGHT_BIT) is wide


def test_text_that_is_hardly_ascii_goes_in_base64() -> None:
    converted = convert(LETTER("", "Здравствуйте, мир\r\n" * 20).encode(), Way.SEVEN_BIT)
    assert b"Content-Transfer-Encoding: base64\r\n" in converted
    assert leaves(converted) == [("Здравствуйте, мир\r\n" * 20).encode()]


def test_a_letter_without_mime_learns_that_nothing_is_known_of_its_text() -> None:
    converted = convert("Subject: x\r\n\r\nGrüße\r\n".encode(), Way.SEVEN_BIT)
    assert converted == (
        b"Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\n"
        b"Content-Type: text/plain; charset=unknown-8bit\r\nMIME-Version: 1.0\r\n\r\nGr=C3=BC=C3=9Fe\r\n"
    )


MIXED = (
    'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b b"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
    "preamble\r\n--b b\r\n\r\nplain\r\n--b b \r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n"
    "Content-Type: text/html; charset=utf-8\r\n\r\n<p>Grüße\r\n--b b\r\nContent-Type: image/png\r\n\r\n\u00ff\r\n"
    "--b b--\r\nepilogue\r\n"
)


def test_each_part_is_converted_by_itself_and_an_attached_message_within() -> None:
    converted = convert(MIXED.encode(), Way.SEVEN_BIT).decode("ascii")
    assert converted == (
        'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b b"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n'
        "preamble\r\n--b b\r\n\r\nplain\r\n--b b \r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n"
        "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        "<p>Gr=C3=BC=C3=9Fe=\r\n\r\n--b b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        "w78=\r\n\r\n--b b--\r\nepilogue\r\n"
    )
    assert leaves(converted.encode()) == leaves(MIXED.encode())


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (
            "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nGrüße\r\n--s\r\n\r\n--s--",
            "signed",
        ),
        ("Content-Transfer-Encoding: base64\r\n\r\nGrüße\r\n", "claims to be 'base64'"),
        ("Content-Type: multipart/mixed\r\n\r\nGrüße\r\n", "names no boundary"),
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\nGrüße\r\n--b\r\n\r\nx\r\n--b--\r\n", "beside the parts"),
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\nGrüße", "beside the parts"),
        ("Content-Type: message/partial; id=1\r\n\r\nGrüße\r\n", "may not be encoded"),
        ("Subject: Grüße\r\n\r\nx\r\n", "header"),
        ("Grüße", "header"),
        ("Content-Type: message/rfc822\r\n\r\n" * 60 + "\r\nGrüße", "deep"),
    ],
)
def test_what_cannot_be_converted_says_why(letter: str, why: str) -> None:
    with pytest.raises(UnconvertibleError, match=why):
        convert(letter.encode(), Way.SEVEN_BIT)


def test_a_signed_part_that_passes_is_left_alone_beside_one_that_does_not() -> None:
    signed = (
        "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nx\r\n--s\r\nContent-Type: x/y\r\n\r\n\r\n--s--"
    )
    letter = f"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{signed}\r\n--b\r\n\r\nGrüße\r\n--b--\r\n"
    assert signed.encode() in convert(letter.encode(), Way.SEVEN_BIT)


def test_a_binary_part_goes_as_lines_and_8bit_text_beside_it_stays() -> None:
    letter = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        b"--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
        b"--b\r\nContent-Type: x/y\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n\r\xff\r\n--b--\r\n"
    )
    converted = convert(letter, Way.EIGHT_BIT)
    assert b"boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n" in converted
    assert b"\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n--b" in converted
    assert b"Content-Transfer-Encoding: base64\r\n\r\nAAoN/w==\r\n\r\n--b--" in converted


def test_no_line_becomes_a_boundary_by_being_folded() -> None:
    text = b"a" * 75 + b"--b\r\n\xff"
    letter = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + text + b"\r\n--b--\r\n"
    assert leaves(convert(letter, Way.SEVEN_BIT)) == [text]


@given(st.binary(max_size=300), st.sampled_from(["text/plain", "image/png"]), st.sampled_from(Way))
def test_any_octets_come_back_as_they_were(body: bytes, kind: str, way: Way) -> None:
    letter = f"MIME-Version: 1.0\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: binary\r\n\r\n".encode() + body
    converted = convert(letter, way)
    assert passes(converted, way)
    assert converted is letter or leaves(converted) == [body]
    assert all(len(line) <= 76 for line in converted.split(b"\r\n")) or converted is letter


texts = st.text(st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=120)
parts = st.recursive(
    st.tuples(st.sampled_from(["text/plain", "text/html", "application/octet-stream"]), texts),
    lambda inner: st.tuples(st.sampled_from(["mixed", "alternative"]), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=6,
)


def _written(part: tuple[str, object], number: int = 0) -> str:
    kind, content = part
    if isinstance(content, str):
        return f"Content-Type: {kind}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{content}"
    assert isinstance(content, list)
    inside = "".join(f"--={number}=\r\n{_written(one, number + 1)}\r\n" for one in content)
    return f'Content-Type: multipart/{kind}; boundary="={number}="\r\n\r\n{inside}--={number}=--'


@given(parts)
def test_any_tree_of_parts_comes_back_as_it_was(tree: tuple[str, object]) -> None:
    letter = ("MIME-Version: 1.0\r\n" + _written(tree) + "\r\n").encode()
    converted = convert(letter, Way.SEVEN_BIT)
    assert passes(converted, Way.SEVEN_BIT)
    assert leaves(converted) == leaves(letter)


@given(st.binary(max_size=400))
def test_anything_is_converted_or_refused(octets: bytes) -> None:
    for way in Way:
        with suppress(UnconvertibleError):
            assert passes(convert(octets, way), way)

"""Whatever octets were captured, they can be read."""

from hypothesis import example, given
from hypothesis import strategies as st

from waypost.admin.reading import taken_apart
from waypost.mail.envelope import MessageId
from waypost.queue.storage import CapturedMessage


def captured(octets: bytes) -> CapturedMessage:
    return CapturedMessage(1, MessageId("0000000000000"), "", ("b@example.com",), 0.0, len(octets))


MIXED = (
    b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n<b>hi</b>\r\n"
    b"--x\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n"
    b"--x\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=notes.txt\r\n\r\nsecret\r\n--x--\r\n"
)


def test_the_text_part_is_decoded_and_attachments_are_named_only() -> None:
    detail = taken_apart(captured(MIXED), MIXED)
    assert detail.text.strip() == "Grüße"
    assert detail.html.strip() == "<b>hi</b>"
    assert detail.attachments == ("notes.txt",)


def test_an_unknown_charset_is_read_as_utf8() -> None:
    octets = b"Content-Type: text/plain; charset=klingon\r\n\r\nh\xc3\xa9\r\n"
    assert taken_apart(captured(octets), octets).text == "hé\r\n"


def test_a_cut_message_says_so() -> None:
    assert taken_apart(captured(MIXED), MIXED[:100]).cut


@given(st.binary(max_size=400).map(lambda tail: b"Content-Type: " + tail) | st.binary(max_size=400))
@example(
    b"From: =?utf-8?b?////?= <\x00@\xff>\r\nTo: @@,;:\r\nContent-Disposition: attachment; filename*=x'\r\n\r\n\xff"
)
@example(b"Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n--\r\n")
def test_any_octets_can_be_taken_apart(octets: bytes) -> None:
    detail = taken_apart(captured(octets), octets)
    assert all(name.isprintable() and value.isprintable() for name, value in detail.header)

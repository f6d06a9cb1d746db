"""Any octets at all, in any segmentation: a session tells events, and never raises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from hypothesis import given, settings
from hypothesis import strategies as st

from waypost.smtp.body import BodyFault
from waypost.smtp.client import ClientSession
from waypost.smtp.command import Auth, Hello, Mail, NoResponse, Rcpt
from waypost.smtp.event import (
    AuthResponse,
    ClientEvent,
    Closing,
    DataAnswered,
    DataChunk,
    DataEnd,
    DataStart,
    Event,
    HandshakeDue,
    NeedOctets,
    Opened,
    PeerClosing,
    Refused,
    StartTls,
    TlsGranted,
    TransactionEnded,
    Violation,
)
from waypost.smtp.extension import MailParameters, RcptParameters
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.path import NullPath, parse_mailbox
from waypost.smtp.reply import Reply
from waypost.smtp.server import ServerSession
from waypost.smtp.settings import ServerSettings
from waypost.smtp.stage import Opening, Stage, Tls
from waypost.smtp.transaction import Transaction

OK = Reply.of(250, "2.0.0", "OK")
BODY = b"Subject: x\r\n\r\n.\r\n"

command_words = st.sampled_from(
    [
        b"EHLO us.example\r\n",
        b"HELO us.example\r\n",
        b"LHLO us.example\r\n",
        b"MAIL FROM:<alice@us.example>\r\n",
        b"MAIL FROM:<> SIZE=10 BODY=8BITMIME\r\n",
        "MAIL FROM:<jürgen@us.example> SMTPUTF8\r\n".encode(),
        b"RCPT TO:<bob@mx.example>\r\n",
        b"RCPT TO:<postmaster> NOTIFY=NEVER ORCPT=rfc822;a+2Bb\r\n",
        b"DATA\r\n",
        b".\r\n",
        b"..\r\n",
        b"text\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"QUIT\r\n",
        b"STARTTLS\r\n",
        b"AUTH PLAIN AGEAYg==\r\n",
        b"AUTH LOGIN\r\n",
        b"AGEAYg==\r\n",
        b"*\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b".",
        b" ",
        b"\0",
        b"<",
        b"x" * 700,
    ]
)
reply_words = st.sampled_from(
    [
        b"220 mx.example\r\n",
        b"250-mx.example\r\n",
        b"250-PIPELINING\r\n",
        b"250-STARTTLS\r\n",
        b"250-AUTH PLAIN LOGIN\r\n",
        b"250 OK\r\n",
        b"250 OK\n",
        b"235 welcome\r\n",
        b"334 \r\n",
        b"354 go\r\n",
        b"421 bye\r\n",
        b"450 later\r\n",
        b"504 not that\r\n",
        b"550 no\r\n",
        b"250",
        b"25",
        b"-",
        b"\r\n",
        b"x" * 1400,
    ]
)
HELLO = b"EHLO us.example\r\n"
GROUP = b"MAIL FROM:<>\r\nRCPT TO:<bob@mx.example>\r\nRCPT TO:<carol@mx.example>\r\nDATA\r\n"
client_speech = st.tuples(
    st.sampled_from(
        [[], [HELLO], [HELLO, GROUP], [b"LHLO us.example\r\n", GROUP], [HELLO, GROUP, b"x\r\n.\r\n", GROUP]]
    ),
    st.lists(command_words | st.binary(max_size=8), max_size=25),
).map(lambda speech: speech[0] + speech[1])
server_speech = st.lists(reply_words | st.binary(max_size=4), max_size=25)


def octet_by_octet(segments: Sequence[bytes]) -> Iterator[bytes]:
    for segment in segments:
        for octet in segment:
            yield bytes([octet])


# ---- the server


def serve(segments: Iterator[bytes] | Sequence[bytes], offer: ServerSettings) -> tuple[list[Event], bytes]:
    """The events of a session whose caller accepts everything, adjoining chunks joined; and all that it said."""
    session = ServerSession(offer)
    session.permit_auth(offer.mechanisms)
    session.greet(Reply(220, ("mx.example",)))
    events: list[Event] = []
    said = session.octets_to_send()
    recipients = 0
    for segment in segments:
        session.receive(segment)
        while not isinstance(event := session.next_event(), NeedOctets | Closing):
            match event:
                case Hello():
                    session.reply(session.hello_reply())
                case StartTls():
                    session.reply(OK)
                case TlsGranted():
                    session.tls_started()
                case Mail():
                    recipients = 0
                    session.reply(OK)
                case Rcpt():
                    recipients += 1
                    session.reply(OK)
                case Auth(response=NoResponse()):
                    session.challenge(b"")
                case Auth() | AuthResponse():
                    session.reply(Reply.of(235, "2.7.0", "OK"))
                case DataStart():
                    session.reply(Reply(354, ("go",)))
                case DataEnd():
                    for _ in range(recipients if offer.lmtp else 1):
                        session.reply(OK)
                case _:
                    pass
            if isinstance(event, DataChunk) and events and isinstance(events[-1], DataChunk):
                event = DataChunk(events.pop().octets + event.octets)  # type: ignore[union-attr]  # checked above
            events.append(event)
        said += session.octets_to_send()
        if isinstance(event, Closing):
            events.append(event)
            break
    return events, said


def consistent(events: Sequence[Event]) -> bool:
    """Whether each accepted body is just what its chunks held."""
    chunk = b""
    for event in events:
        if isinstance(event, DataStart):
            chunk = b""
        elif isinstance(event, DataChunk):
            chunk += event.octets
        elif isinstance(event, DataEnd) and event.fault is BodyFault.NONE and event.size != len(chunk):
            return False
    return True


server_settings = st.builds(
    ServerSettings,
    hostname=st.just("mx.example"),
    size_limit=st.sampled_from([0, 20, 1000]),
    lmtp=st.booleans(),
    smtputf8=st.booleans(),
    dsn=st.booleans(),
    max_recipients=st.integers(1, 3),
    max_errors=st.integers(1, 30),
    mechanisms=st.sampled_from([(), ("PLAIN", "LOGIN")]),
    starttls=st.booleans(),
    tls_required=st.booleans(),
)


@given(client_speech, server_settings)
def test_whatever_a_client_says_the_server_tells_events_and_stays_in_step(
    segments: list[bytes], offer: ServerSettings
) -> None:
    events, said = serve(segments, offer)
    assert consistent(events)
    assert said.startswith(b"220 ")
    assert said.endswith(b"\r\n")


def settled(dialogue: tuple[list[Event], bytes]) -> tuple[list[Event], bytes]:
    """Without the chunks of bodies that were not taken: how much of one is given out before its fault may differ."""
    events, said = dialogue
    taken = [
        event
        for event, following in zip_longest(events, events[1:])
        if not isinstance(event, DataChunk) or (isinstance(following, DataEnd) and following.fault is BodyFault.NONE)
    ]
    return taken, said


@settings(deadline=None)  # octet by octet takes its time
@given(client_speech, server_settings)
def test_segmentation_changes_nothing_but_who_spoke_too_soon(segments: list[bytes], offer: ServerSettings) -> None:
    whole = settled(serve(segments, offer))
    slowly = settled(serve(octet_by_octet(segments), offer))
    events = whole[0]
    too_soon = [event for event in events if isinstance(event, Refused) and "wait for the reply" in str(event.reply)]
    if too_soon:  # octet by octet nothing ever is too soon, so the slower dialogue goes on where the other ended
        before = events[: events.index(too_soon[0])]
        assert slowly[0][: len(before)] == before
    else:
        assert slowly == whole


# ---- the client

transactions = st.integers(1, 3).map(
    lambda number: Transaction(
        NullPath(),
        MailParameters(),
        [(parse_mailbox(f"user{index}@mx.example"), RcptParameters()) for index in range(number)],
    )
)


def call(session: ClientSession, segments: Sequence[bytes], transaction: Transaction) -> list[ClientEvent]:
    """The events of a session whose caller goes on as far as it can."""
    told: list[ClientEvent] = []
    session.octets_to_send()
    for segment in segments:
        events = session.receive(segment)
        told += events
        if isinstance(events[-1] if events else None, Opened | TransactionEnded) and session.awaiting is Stage.READY:
            session.begin(transaction)
        elif session.awaiting is Stage.BODY and isinstance(events[-1] if events else None, DataAnswered):
            session.octets_to_send()
            session.send_body(BODY)
            session.end_body()
        elif session.awaiting is Stage.HANDSHAKE and events == [HandshakeDue()]:
            session.tls_started()
        session.octets_to_send()
    return told


sessions = st.builds(
    ClientSession,
    st.just("us.example"),
    opening=st.sampled_from(Opening),
    tls=st.sampled_from(Tls),
    credentials=st.sampled_from([NoCredentials(), Credentials("user", "sesame")]),
)


@given(sessions, server_speech, transactions)
def test_whatever_a_server_says_the_client_tells_events_and_ends_at_most_once(
    session: ClientSession, segments: list[bytes], transaction: Transaction
) -> None:
    events = call(session, segments, transaction)
    ends = [index for index, event in enumerate(events) if isinstance(event, Violation | PeerClosing)]
    assert ends in ([], [len(events) - 1])
    assert not ends or session.awaiting is Stage.CLOSED
    assert isinstance(session.awaiting, Stage)
    assert "sesame" not in repr(events) + repr(session.said())


group_replies = st.lists(
    st.sampled_from([b"250 OK\r\n", b"250-a\r\n250 b\r\n", b"450 x\r\n", b"550 x\r\n", b"421 x\r\n", b"354 go\r\n"]),
    min_size=3,
    max_size=5,
)


def ready() -> ClientSession:
    session = ClientSession("us.example")
    session.receive(b"220 mx.example\r\n")
    session.octets_to_send()
    session.receive(b"250-mx.example\r\n250 PIPELINING\r\n")
    return session


@given(group_replies)
def test_the_replies_to_a_group_mean_the_same_in_any_segmentation(replies: list[bytes]) -> None:
    paths = [parse_mailbox(f"user{number}@mx.example") for number in range(len(replies) - 2)]
    transaction = Transaction(NullPath(), MailParameters(), [(path, RcptParameters()) for path in paths])
    whole, slow = ready(), ready()
    for session in (whole, slow):
        session.begin(transaction)
        session.octets_to_send()
    slowly = [event for octet in octet_by_octet(replies) for event in slow.receive(octet)]
    assert slowly == list(whole.receive(b"".join(replies)))
    assert slow.awaiting is whole.awaiting
    assert slow.octets_to_send() == whole.octets_to_send()


@given(st.binary(max_size=200))
def test_any_octets_for_a_greeting_mean_the_same_in_any_segmentation(octets: bytes) -> None:
    whole, slow = ClientSession("us.example"), ClientSession("us.example")
    told = list(whole.receive(octets))
    slowly = [event for octet in octet_by_octet([octets]) for event in slow.receive(octet)]
    assert slowly == told

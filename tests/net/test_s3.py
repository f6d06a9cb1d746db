"""Objects in a bucket, against a server that speaks S3, and the signature against the vendor's own."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from tests.queue.postgres.store import KEYS, Door, door, make_bucket
from waypost.net import s3
from waypost.net.bucket import Bucket, Keys, parse_bucket
from waypost.net.clock import SystemClock
from waypost.net.s3 import S3, Listed, NoSuchObjectError, S3Error, signed

AT = 1_767_225_600.0


@pytest.fixture
async def front() -> AsyncIterator[Door]:
    async with door() as one:
        yield one


@pytest.fixture
async def store(front: Door, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3]:
    monkeypatch.setattr(s3, "PAUSE", timedelta(milliseconds=5))
    one = front.store(SystemClock(), "net", "a b/ü")
    await make_bucket(one)
    yield one
    front.refuses = 0
    front.open.set()
    monkeypatch.undo()
    async for page in one.listed():
        for found in page:
            await one.delete(found.name)
    await one.close()


async def read(store: S3, name: str) -> bytes:
    return b"".join([octets async for octets in store.get(name)])


async def names(store: S3, beginning: str = "") -> list[str]:
    return [found.name async for page in store.listed(beginning) for found in page]


async def test_what_is_put_is_read_listed_and_deleted(store: S3) -> None:
    body = bytes(range(256)) * 4096
    await store.put("x/1", body)
    await store.put("x/2", b"")
    await store.put("y/1", b"other")

    assert await read(store, "x/1") == body
    assert await read(store, "x/2") == b""
    assert await names(store) == ["x/1", "x/2", "y/1"]
    assert await names(store, "x/") == ["x/1", "x/2"]
    await store.put("x/1", b"in its place")
    assert await read(store, "x/1") == b"in its place"
    await store.delete("x/1")
    await store.delete("x/1")
    with pytest.raises(NoSuchObjectError, match="answered 404"):
        await read(store, "x/1")


async def test_a_list_goes_on_beyond_its_first_page(store: S3) -> None:
    wanted = [f"z/{number}" for number in range(5)]
    for name in wanted:
        await store.put(name, b"1")
    whole = s3._read_list

    def small(octets: bytes, bucket: Bucket) -> tuple[list[Listed], str]:
        found, token = whole(octets, bucket)
        return list(found), token

    page = S3._requested

    async def two_at_a_time(self: S3, method: str, url: str, octets: bytes, what: str) -> bytes:
        return await page(self, method, url + "&max-keys=2", octets, what)

    with patch.object(S3, "_requested", two_at_a_time), patch.object(s3, "_read_list", small):
        assert [len(found) async for found in store.listed("z/")] == [2, 2, 1]
        assert await names(store, "z/") == wanted


async def test_trouble_that_passes_is_not_noticed_and_a_lost_answer_to_a_put_neither(store: S3, front: Door) -> None:
    front.refuses = 2
    await store.put("x", b"1")
    front.loses = 1
    await store.put("x", b"2")
    assert await read(store, "x") == b"2"


async def test_trouble_that_lasts_says_what_the_store_said(store: S3, front: Door) -> None:
    front.refuses = 99
    with pytest.raises(S3Error, match=r"s3://net/a b/ü/x: the store answered 503 .*SlowDown"):
        await store.put("x", b"1")
    front.refuses = 99
    with pytest.raises(S3Error, match="503"):
        await read(store, "x")


async def test_a_store_that_says_nothing_is_given_up(store: S3, front: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "SILENCE", 0.1)
    await store.close()  # so that the next session heeds it
    front.open.clear()
    with pytest.raises(S3Error, match="x: "):
        await store.put("x", b"1")
    assert len([one for one in front.seen if one.endswith("/x")]) == s3.TRIES
    await store.close()


async def test_a_store_that_is_not_there_is_told_of() -> None:
    store = S3(parse_bucket("s3://mail?endpoint=http://127.0.0.1:1"), KEYS, SystemClock())
    with pytest.raises(S3Error, match=r"127[.]0[.]0[.]1:1"):
        await store.put("x", b"1")
    await store.close()


@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
    octets=st.binary(max_size=100),
    session=st.sampled_from(["", "token/+="]),
)
def test_the_signature_is_the_one_that_the_vendors_library_makes(name: str, octets: bytes, session: str) -> None:
    url = (
        f"https://s3.example.net:9000/bucket/{quote(name, safe='/-_.~')}?prefix={quote(name, safe='-_.~')}&list-type=2"
    )
    keys = Keys(KEYS.access, KEYS.secret, session)
    ours = signed("PUT", url, {}, hashlib.sha256(octets).hexdigest(), keys=keys, region="eu-1", at=AT)
    request = AWSRequest("PUT", url, data=octets)
    with patch("botocore.auth.get_current_datetime", return_value=datetime.fromtimestamp(AT, UTC).replace(tzinfo=None)):
        S3SigV4Auth(Credentials(keys.access, keys.secret, session or None), "s3", "eu-1").add_auth(request)
    theirs = dict(request.headers)

    assert ours["authorization"].split("Signature=")[1] == theirs["Authorization"].split("Signature=")[1]
    assert ours["authorization"].replace(", ", ",") == theirs["Authorization"].replace(", ", ",")


def test_a_bucket_is_read_from_its_address() -> None:
    assert parse_bucket("s3://mail") == Bucket("mail")
    whole = parse_bucket("s3://mail/a%20b/c/?endpoint=http://h:1/&region=eu-1")
    assert whole == Bucket("mail", "a b/c/", "http://h:1", "eu-1")
    assert parse_bucket("s3://mail/x").root == "https://mail.s3.us-east-1.amazonaws.com/"
    assert parse_bucket("s3://mail/x?endpoint=https://h").root == "https://h/mail/"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://mail", "is no bucket; write one such as"),
        ("s3://", "is no bucket"),
        ("s3://key:secret@mail", "is no bucket"),
        ("s3://mail?endpoint=h", "'h' is no endpoint; write its URL"),
        ("s3://mail?colour=red", "says colour, which means nothing"),
    ],
)
def test_what_is_no_bucket_is_told_so(text: str, why: str) -> None:
    with pytest.raises(ValueError, match="^.*" + why):
        parse_bucket(text)


@given(st.binary(max_size=200))
def test_whatever_the_store_lists_is_read_or_refused(octets: bytes) -> None:
    with contextlib.suppress(S3Error):
        s3._read_list(octets, Bucket("mail"))


def test_no_secret_is_shown() -> None:
    assert KEYS.secret not in repr(KEYS)

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.letters import NOW, envelope, name, path
from waypost.mail.envelope import Envelope, NextHop, Origin, Recipient
from waypost.queue import record
from waypost.smtp.extension import BodyType, MailParameters, Notify, RcptParameters, Return
from waypost.smtp.path import AddressLiteral, DomainName, ForwardPath, Mailbox, NullPath, Postmaster

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
domains = st.one_of(
    st.from_regex(r"[a-z0-9]{1,10}(\.[a-zü]{2,6}){0,2}", fullmatch=True).map(DomainName),
    st.ip_addresses(v=4).map(lambda address: AddressLiteral(IPv4Address(address))),
    st.ip_addresses(v=6).map(lambda address: AddressLiteral(IPv6Address(address))),
)
mailboxes = st.builds(Mailbox, texts, domains)
mail_parameters = st.builds(
    MailParameters, st.integers(0, 10**12), st.sampled_from(BodyType), st.booleans(), st.sampled_from(Return), texts
)
notifies = st.sampled_from([Notify(bits) for bits in range(16)])


@settings(max_examples=40, deadline=None)
@given(mailboxes)
def test_a_mailbox_and_its_text_name_one_another(mailbox: Mailbox) -> None:
    assert record.forward_path_of(record.address_of(mailbox)) == mailbox
    assert record.reverse_path_of(record.address_of(mailbox)) == mailbox


def test_the_paths_that_are_no_mailboxes_have_texts_of_their_own() -> None:
    assert record.reverse_path_of(record.address_of(NullPath())) == NullPath()
    assert record.forward_path_of(record.address_of(Postmaster())) == Postmaster()


@settings(max_examples=40, deadline=None)
@given(st.one_of(mailboxes, st.just(NullPath())), mail_parameters, texts)
def test_an_envelope_is_read_back_as_it_was_written(
    reverse_path: Mailbox | NullPath, parameters: MailParameters, client_name: str
) -> None:
    origin = Origin("ESMTPS", "2001:db8::1", client_name, "[::1]:25")
    sent = Envelope(reverse_path, (Recipient(path("b@example.org"), NextHop("mx:x")),), origin, parameters)
    written = record.encode(record.envelope_details(sent, 7))
    assert record.decode_message(name(1), written, NOW, 7) == record.queued_message(name(1), sent, NOW, 7)


@settings(max_examples=40, deadline=None)
@given(st.one_of(mailboxes, st.just(Postmaster())), notifies, texts)
def test_a_recipient_is_read_back_as_it_was_written(
    forward_path: ForwardPath, notify: Notify, original_recipient: str
) -> None:
    parameters = RcptParameters(notify, original_recipient)
    recipient = Recipient(forward_path, NextHop("mx:x"), parameters)
    row = (record.address_of(forward_path), record.encode_parameters(parameters), 0, 0, "")
    assert record.decode_recipient(3, *row) == record.queued_recipient(3, recipient)


def test_a_message_is_found_by_each_of_its_addresses_in_lower_case() -> None:
    sent = envelope(Recipient(path("Bert@Example.ORG"), NextHop("a")), Recipient(path("postmaster"), NextHop("a")))
    assert record.addresses_of(sent) == {"anna@example.net", "bert@example.org", "postmaster"}
    assert record.addresses_in(record.encode(record.envelope_details(sent, 1))) == record.addresses_of(sent)
    assert record.addresses_of(replace(sent, reverse_path=NullPath())) == {"bert@example.org", "postmaster"}


@pytest.mark.parametrize("text", ["\udcff", "a\ud800b"])
def test_what_is_no_text_is_written_as_its_escape(text: str) -> None:
    assert "\\\\" in record.encode({"said": [text, {"deeper": text}]})


def test_an_envelope_written_before_there_were_accounts_is_read() -> None:
    """A spool of an earlier release names no account in the origin and no submitter in the parameters."""
    written = (
        '{"reverse_path":"a@x.example","recipients":[],"size":1,"parameters":{"size":1},'
        '"origin":{"protocol":"ESMTP","client_host":"192.0.2.1","client_name":"us","listener":"[::]:25"}}'
    )
    message = record.decode_message(name(1), written, NOW, 1)
    assert message.origin == Origin("ESMTP", "192.0.2.1", "us", "[::]:25")
    assert message.parameters.submitter == ""


def test_the_account_and_the_submitter_are_read_back_and_told() -> None:
    origin = Origin("ESMTPA", "192.0.2.1", "us", "[::]:587", "alice@x.example")
    envelope = Envelope(NullPath(), (), origin, MailParameters(submitter="<>"))
    details = record.envelope_details(envelope, 1)
    message = record.decode_message(name(1), record.encode(details), NOW, 1)
    assert (message.origin, message.parameters.submitter) == (origin, "<>")
    assert "by ESMTPA as alice@x.example" in record.received(name(1), NOW, details).text


def test_requiretls_and_what_protected_the_message_are_read_back_and_told() -> None:
    """A spool of an earlier release knows neither; see the test of the account above."""
    origin = Origin("ESMTPS", "192.0.2.1", "us.example", "127.0.0.1:25", tls="TLSv1.3 TLS_AES_256_GCM_SHA384")
    envelope = Envelope(NullPath(), (), origin, MailParameters(requiretls=True))
    details = record.envelope_details(envelope, 3)
    message = record.decode_message(name(1), record.encode(details), NOW, 3)
    assert (message.origin, message.parameters.requiretls) == (origin, True)
    assert "(TLSv1.3 TLS_AES_256_GCM_SHA384)" in record.received(name(1), NOW, details).text

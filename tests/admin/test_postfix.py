"""A Postfix configuration becomes one of ours that is in order, and what does not carry over is told by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.admin.translations import config, way
from tests.cli.service import asked
from waypost.admin.postfix import Translator, read_main, read_map, read_master
from waypost.admin.translation import Translation
from waypost.route.route import Reject, Route, SmtpServers
from waypost.route.target import target_text
from waypost.smtp.login import Credentials
from waypost.smtp.path import parse_mailbox

HEAD = "myhostname = mail.example.com\nmydomain = example.com\nmyorigin = $mydomain\n"
MASTER = """\
smtp      inet  n       -       y       -       -       smtpd
submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
pickup    unix  n       -       y       60      1       pickup
"""


def translated(directory: Path, main: str, **files: str) -> Translation:
    """The translation of a configuration with these tables beside it."""
    (directory / "main.cf").write_text(HEAD + main)
    (directory / "master.cf").write_text(MASTER)
    for name, text in files.items():
        (directory / name).write_text(text)
    return Translator(directory).translate()


def test_the_relay_of_a_network_carries_over_with_its_password(tmp_path: Path) -> None:
    main = (
        "mynetworks = 127.0.0.0/8 [::1]/128,\n  192.168.0.0/16\nmydestination =\n"
        "relayhost = [smtp.provider.example]:587\n"
        "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:sasl_passwd\nsmtp_tls_security_level = encrypt\n"
        "message_size_limit = 20480000\nmaximal_queue_lifetime = 3\n"
    )
    found = translated(tmp_path, main, sasl_passwd="[smtp.provider.example]:587 user:pa:ss\n")
    ours = config(tmp_path, found)
    route = ours.route_table().route(parse_mailbox("bob@far.example"))
    assert isinstance(route, Route)
    assert isinstance(route.transport, SmtpServers)
    assert route.credentials == Credentials("user", "pa:ss")
    assert (target_text(route.transport), route.tls.value) == ("smtp://smtp.provider.example:587", "required")
    assert [str(network) for network in ours.relay.networks] == ["127.0.0.0/8", "::1/128", "192.168.0.0/16"]
    assert [(str(one.address), one.role) for one in ours.listeners] == [
        ("0.0.0.0:25", "mx"),
        ("0.0.0.0:587", "submission"),
    ]
    assert (ours.limits.message_size, ours.retry.expire.days) == (20480000, 3)
    assert str(ours.service.postmaster) == "postmaster@example.com"


def test_transports_win_over_what_their_domains_would_have_had(tmp_path: Path) -> None:
    table = (
        "relayed.example smtp:[10.0.0.9]:2525\nbad.example error:5.1.2 no such domain\n"
        "bob@example.net smtp:[10.0.0.8]\n"
        ".sub.example :[2001:db8::7]\nhop.example relay:next.example\nfax.example fax:nowhere\n"
    )
    main = "mydestination =\nrelay_domains = relayed.example, other.example\ntransport_maps = texthash:transport\n"
    found = translated(tmp_path, main, transport=table)
    ours = config(tmp_path, found)
    assert way(ours, "a@relayed.example") == "smtp://10.0.0.9:2525"
    assert way(ours, "a@other.example").startswith("mx:")
    assert way(ours, "bob@example.net") == "smtp://10.0.0.8:25"
    assert way(ours, "a@x.sub.example") == "smtp://[2001:db8::7]:25"
    assert way(ours, "a@hop.example") == "mx:next.example"
    bad = ours.route_table().route(parse_mailbox("a@bad.example"))
    assert isinstance(bad, Route)
    assert isinstance(bad.transport, Reject)
    assert ("transport: fax.example fax:nowhere", 'write a [[route]]; a program is to = "pipe:/path"') in found.left


def test_domains_have_their_stores_their_aliases_and_their_users(tmp_path: Path) -> None:
    main = (
        "virtual_mailbox_domains = boxes.example\nvirtual_mailbox_maps = hash:boxes\n"
        "virtual_transport = lmtp:unix:/run/lmtp\nvirtual_alias_maps = hash:virtual\n"
        "mydestination = example.com, localhost\nmailbox_transport = lmtp:unix:private/lmtp\n"
        "recipient_delimiter = +\ncanonical_maps = hash:canonical\nalways_bcc = archive@example.com\n"
    )
    tables = {
        "boxes": "ann@boxes.example x\n",
        "virtual": "info@boxes.example ann@boxes.example\n",
        "canonical": "a@b.example c@d.example\n",
    }
    found = translated(tmp_path, main, **tables)
    ours = config(tmp_path, found)
    assert way(ours, "a@boxes.example") == "lmtp:///run/lmtp"
    assert way(ours, "a@example.com") == "lmtp:///var/spool/postfix/private/lmtp"
    (boxes,) = [each.section for each in ours.domains if each.section.users]
    assert (boxes.aliases, boxes.users, boxes.subaddress) == (("virtual",), ("boxes",), "+")
    assert str(ours.copies[0].section.to) == "archive@example.com"


def test_what_does_not_carry_over_is_told_and_mail_for_it_is_refused_rather_than_lost(tmp_path: Path) -> None:
    main = (
        "mydestination = example.com\nheader_checks = regexp:/etc/postfix/checks\n"
        "smtpd_milters = inet:localhost:1\nodd = 1\n"
    )
    found = translated(tmp_path, main)
    assert way(config(tmp_path, found), "a@example.com").startswith("reject:550 5.2.1")
    told = dict(found.left)
    assert set(told) >= {"mailbox_transport", "header_checks", "smtpd_milters", "odd", "local_recipient_maps"}
    assert "hooks" in told["header_checks"]


def test_tables_that_are_no_text_and_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    main = "mydestination =\ntransport_maps = mysql:/etc/postfix/mysql.cf, hash:gone\nvirtual_alias_maps = ldap:x\n"
    told = dict(translated(tmp_path, main).left)
    assert "transport_maps: mysql:/etc/postfix/mysql.cf" in told
    assert "virtual_alias_maps: ldap:x" in told
    assert told["gone"].startswith("cannot be read")


def test_the_command_writes_files_nobody_else_can_read_and_keeps_what_is_there(tmp_path: Path) -> None:
    translated(tmp_path, "relayhost = [hub.example.net]\nmydestination =\n")
    said = asked("import", "postfix", "--from", str(tmp_path), "--into", str(tmp_path / "out"))
    assert "waypost.toml" in said
    written = tmp_path / "out/waypost.toml"
    assert 'to = "smtp://hub.example.net:25"' in written.read_text()
    assert written.stat().st_mode & 0o077 == 0
    asked("import", "postfix", "--from", str(tmp_path), "--into", str(tmp_path / "out"), code=1)
    asked("import", "postfix", "--from", str(tmp_path / "nowhere"), "--into", str(tmp_path / "more"), code=1)


@given(st.text())
@example("a line of no setting\n goes on")
def test_any_text_is_read(text: str) -> None:
    read_main(text)
    read_map(text)
    list(read_master(text))


@pytest.mark.parametrize("table", ["a b\n  c d\n# no\ne\tf\n", "a: b c d\ne: f\n"])
def test_tables_go_on_over_lines_and_have_colons_in_aliases(table: str) -> None:
    assert read_map(table) in ({"a": "b c d", "e": "f"}, {"a": "b c d", "e": "f"})

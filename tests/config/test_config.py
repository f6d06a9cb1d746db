"""A configuration file: what it comes to, and each thing that can be wrong with it, with its line and remedy."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.net.certificates import make
from waypost.config import Complaint, Complaints, Config, load, parse, reference
from waypost.config.model import ARRAYS, TABLES
from waypost.config.parts import mechanisms, resolver_settings
from waypost.config.sections import SECTIONS
from waypost.net.machine import system_servers
from waypost.net.stream import Endpoint
from waypost.net.stub_resolver import ResolverSettings
from waypost.queue.schedule import RetryPolicy
from waypost.route.route import Capture, Limits, Maildir, Route, TlsPolicy
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.path import DomainName, Mailbox, Postmaster

ROOT = Path(__file__).parents[2]
SERVICE = '[service]\nhostname = "mx.example.net"\nspool = "spool"\npostmaster = "postmaster@example.net"\n'
LISTENER = '[[listener]]\naddress = "127.0.0.1:2525"\n'
GOOD = SERVICE + LISTENER


def accepted(text: str, base: Path = Path("/etc/waypost")) -> Config:
    config = parse(text, where="w.toml", base=base)
    assert isinstance(config, Config), str(config)
    return config


def refused(text: str, base: Path = Path("/etc/waypost")) -> tuple[Complaint, ...]:
    complaints = parse(text, where="w.toml", base=base)
    assert isinstance(complaints, Complaints)
    return complaints.complaints


def only(text: str) -> Complaint:
    (complaint,) = refused(text)
    return complaint


# ---- what is accepted
def test_the_least_a_file_must_say() -> None:
    config = accepted(GOOD)
    assert config.service.hostname == "mx.example.net"
    assert config.service.postmaster == Mailbox("postmaster", DomainName("example.net"))
    assert config.spool == Path("/etc/waypost/spool")
    assert [(one.address, one.role) for one in config.listeners] == [(Endpoint("127.0.0.1", 2525), "mx")]
    assert config.admin.address == Endpoint("127.0.0.1", 8025)
    assert config.relay.networks == ()
    assert config.timeouts.dot == timedelta(minutes=10)
    assert config.limits.message_size == 50 * 1024**2


def test_the_quick_start_keeps_all_mail_on_this_machine(tmp_path: Path) -> None:
    config = load(ROOT / "examples/quickstart.toml")
    assert isinstance(config, Config), str(config)
    assert config.spool == ROOT / "examples/.run/spool"
    assert config.relay.networks == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    for path in (Mailbox("anyone", DomainName("example.org")), Postmaster()):
        route = config.route_table().route(path)
        assert isinstance(route, Route)
        assert route.transport == Capture()


def test_a_route_carries_all_its_settings(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pass word \n")
    config = accepted(
        GOOD + '[[route]]\ndomains = ["Example.org"]\nto = ["smtp://a", "smtp://b"]\ntls = "verify"\nusername = "me"\n'
        'password_file = "secret"\nconcurrency = 3\nrecipients = 50\nmessages = 7\nname = "partner"\n',
        base=tmp_path,
    )
    (rule,) = config.rules
    assert (rule.name, rule.place, rule.relay_only) == ("partner", "w.toml:7", True)
    route = config.route_table().route(Mailbox("u", DomainName("example.org")))
    assert isinstance(route, Route)
    assert route.tls is TlsPolicy.VERIFY
    assert route.credentials == Credentials("me", "pass word ")
    assert route.limits == Limits(3, 50, 7)
    assert route.rule == '"example.org" at w.toml:7'


@pytest.mark.parametrize("key", ["spool", "hostname", "postmaster"])
def test_a_nul_in_any_text_is_told_with_its_line(key: str) -> None:
    """In the path of a file or the spool it was a traceback."""
    text = GOOD.replace(f'\n{key} = "', f'\n{key} = "\\u0000')
    complaint = only(text)
    assert complaint.key == f"service.{key}"
    assert "holds a NUL" in complaint.problem
    assert text.splitlines()[complaint.line - 1].startswith(key)


def test_a_password_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    route = (
        '[[route]]\ndomains = ["*"]\nto = "smtp://a"\ntls = "required"\nusername = "me"\npassword_env = "RELAY_PW"\n'
    )
    monkeypatch.setenv("RELAY_PW", "secret")
    assert accepted(GOOD + route).rules[0].means.credentials == Credentials("me", "secret")
    monkeypatch.delenv("RELAY_PW")
    complaint = only(GOOD + route)
    assert (complaint.line, complaint.key) == (12, "route.password_env")
    assert "RELAY_PW" in complaint.problem


def test_a_loopback_server_may_have_its_password_in_clear(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    text = "to = 'smtp://127.0.0.1:26'\ntls = 'none'\nusername = 'u'\npassword_file = 'secret'\n"
    assert accepted(GOOD + ROUTE + text, base=tmp_path).rules[0].means.tls is TlsPolicy.NONE


@pytest.mark.parametrize(
    ("route", "relay_only"),
    [
        ('domains = ["example.org"]\nto = "smtp://a"', False),
        ('domains = ["example.org"]\nto = "maildir:m"', False),
        ('domains = ["example.org", "*"]\nto = "smtp://a"', False),
        ('domains = ["*"]\nto = "smtp://a"', True),
        ('domains = ["example.org"]\nto = "mx:"', True),
        ('domains = ["example.org"]\nto = "mx:example.net"', True),
        ('domains = ["example.org"]\nto = "mx:"\naccept_from = "anyone"', False),
        ('domains = ["example.org"]\nto = "smtp://a"\naccept_from = "relay"', True),
    ],
)
def test_whose_mail_a_route_takes(route: str, relay_only: bool) -> None:  # noqa: FBT001 - a column of the table above
    assert accepted(f"{GOOD}[[route]]\n{route}\n").rules[0].relay_only is relay_only


def test_a_route_that_logs_in_by_a_certificate_shows_it_and_takes_mail_of_our_own_networks_alone(
    tmp_path: Path,
) -> None:
    made = make("us.example", names=["us.example"])
    (tmp_path / "client.pem").write_bytes(made.pem + made.key_pem)
    route = ROUTE + "to = 'smtp://a'\nclient_certificate = 'client.pem'\nexternal = true\nact_as = 'sales'\n"
    (rule,) = accepted(GOOD + route, tmp_path).rules
    assert rule.means.credentials == Credentials("", "", external=True, act_as="sales")
    assert rule.means.manner.certificate == rule.means.manner.key == str(tmp_path / "client.pem")
    assert rule.relay_only


def test_a_maildir_begins_at_the_files_directory() -> None:
    config = accepted(GOOD + '[[route]]\ndomains = ["a.example"]\nto = "maildir:mail/%d/%u"\n')
    assert config.rules[0].target == Maildir("/etc/waypost/mail/%d/%u")


def test_the_retry_policy_is_made_of_its_section() -> None:
    config = accepted(GOOD + '[retry]\nschedule = ["1m", "1h30m"]\nexpire = "2d"\ndelay_notice = "1h"\njitter = 0.5\n')
    schedule = (timedelta(minutes=1), timedelta(minutes=90))
    assert config.retry_policy() == RetryPolicy(schedule, timedelta(days=2), timedelta(hours=1), 0.5)


def test_dns_servers_may_leave_out_their_port() -> None:
    config = accepted(GOOD + '[dns]\nservers = ["192.0.2.53", "127.0.0.1:5353", "2001:db8::53", "[::1]:5353"]\n')
    assert [str(server) for server in config.dns.servers] == [
        "192.0.2.53:53",
        "127.0.0.1:5353",
        "[2001:db8::53]:53",
        "[::1]:5353",
    ]


def test_the_resolver_asks_what_the_file_says_and_else_what_the_machine_says() -> None:
    dns = '[dns]\nservers = ["192.0.2.53"]\ntimeout = "1s"\nattempts = 3\nhosts_file = false\ncache = 7\n'
    asked = resolver_settings(accepted(GOOD + dns))
    assert asked == ResolverSettings(
        (Endpoint("192.0.2.53", 53),), timeout=timedelta(seconds=1), attempts=3, hosts={}, cache_size=7
    )
    assert resolver_settings(accepted(GOOD)).servers == system_servers()


@pytest.mark.parametrize(
    ("trust", "trusted"),
    [("", ["127.0.0.1"]), ('trust_ad = "all"', ["127.0.0.1", "192.0.2.53"]), ('trust_ad = "none"', [])],
)
def test_the_ad_bit_is_believed_of_servers_on_loopback_unless_the_file_says_otherwise(
    trust: str, trusted: list[str]
) -> None:
    asked = resolver_settings(accepted(f'{GOOD}[dns]\nservers = ["127.0.0.1", "192.0.2.53"]\n{trust}\n'))
    assert asked.trusted == {Endpoint(host, 53) for host in trusted}


def test_listeners_may_share_a_port_on_other_addresses_and_leave_it_to_the_system() -> None:
    free = '[[listener]]\naddress = "127.0.0.1:0"\n'
    config = accepted(GOOD + '[[listener]]\naddress = "[::1]:2525"\nrole = "lmtp"\nname = "inner"\n' + free + free)
    assert len(config.listeners) == 4


# ---- what is refused, a row each: text, line, key, words of the problem, words of the remedy
ROUTE = "[[route]]\ndomains = ['example.org']\n"
WRONG = [
    (SERVICE, 1, "", "no [[listener]]", "[[listener]]"),
    (LISTENER + SERVICE.replace('hostname = "mx.example.net"\n', ""), 3, "service.hostname", "missing", "hostname ="),
    (SERVICE.replace("mx.example.net", "mx") + LISTENER, 2, "service.hostname", "no full name", "mx.example.net"),
    (SERVICE.replace("mx.example.net", "a b.c") + LISTENER, 2, "service.hostname", "'a b'", "hyphens"),
    (SERVICE.replace("mx.example.net", "") + LISTENER, 2, "service.hostname", "no domain name", "mx.example.net"),
    (SERVICE.replace("mx.example.net", "192.0.2.1") + LISTENER, 2, "service.hostname", "address", '"[192.0.2.1]"'),
    (SERVICE.replace("mx.example.net", "::1") + LISTENER, 2, "service.hostname", "address", '"[IPv6:::1]"'),
    (SERVICE.replace("postmaster@", "") + LISTENER, 4, "service.postmaster", "no mailbox", "postmaster@"),
    (
        SERVICE.replace('"spool"', '"mysql://db"') + LISTENER,
        3,
        "service.spool",
        "not in this version",
        "directory",
    ),
    (SERVICE.replace('"spool"', '""') + LISTENER, 3, "service.spool", "is empty", "spool ="),
    (SERVICE.replace('"spool"', "3") + LISTENER, 3, "service.spool", "3 is not text", "spool ="),
    (SERVICE.replace("spool", "spol", 1) + "spool = 'x'\n" + LISTENER, 3, "service.spol", "no setting", "spool?"),
    (SERVICE + "expire = '5d'\n" + LISTENER, 5, "service.expire", "no setting", "Move it to [retry]"),
    (SERVICE + "domains = []\n" + LISTENER, 5, "service.domains", "no setting", "Move it to [[route]]"),
    (SERVICE + "zzz = 1\n" + LISTENER, 5, "service.zzz", "no setting", "There are: hostname, spool"),
    (GOOD + "[relais]\n", 7, "relais", "no section", "relay?"),
    ("hostname = 'a.b'\n" + GOOD, 1, "hostname", "no section", "Move it to [service]"),
    (GOOD + "[route]\nto = 'mx:'\n", 7, "route", "array of tables", "[[route]]"),
    ("relay = 3\n" + GOOD, 1, "relay", "not a table", "[relay]"),
    ("route = [3]\n" + GOOD, 1, "route", "array of tables", "[[route]]"),
    (SERVICE + "[[listener]]\naddress = 'localhost:25'\n", 6, "listener.address", "no numeric", "127.0.0.1"),
    (SERVICE + "[[listener]]\naddress = '127.0.0.1'\n", 6, "listener.address", "no port", "127.0.0.1:2525"),
    (SERVICE + "[[listener]]\naddress = '::1:25'\n", 6, "listener.address", "", '"'),
    (SERVICE + "[[listener]]\naddress = '[::1]:99999'\n", 6, "listener.address", "no port", "127.0.0.1:2525"),
    (SERVICE + "[[listener]]\naddress = 25\n", 6, "listener.address", "25 is no address", "0.0.0.0:25"),
    (GOOD + "role = 'mda'\n", 7, "listener.role", '"mda" is not', "'mx', 'submission', 'lmtp' or 'http'"),
    (GOOD + "role = 'http'\nerrors = 3\n", 8, "listener.errors", "no effect on a listener for HTTP", "Leave it out"),
    (GOOD + LISTENER, 8, "listener.address", "taken by the listener on line 5", "its own"),
    (GOOD + "[[listener]]\naddress = '0.0.0.0:2525'\n", 8, "listener.address", "taken", "its own"),
    (GOOD + "[admin]\naddress = '127.0.0.1:2525'\n", 8, "admin.address", "taken", "its own"),
    (GOOD + "[admin]\naddress = '0.0.0.0:80'\n", 8, "admin.address", "has no users and tls", "127.0.0.1:80"),
    (GOOD + "[relay]\nnetworks = [\n'10.0.0.0/8',\n'10.1.2.3/24']\n", 10, "relay.networks", "bits", "10.1.2.0/24"),
    (GOOD + "[relay]\nnetworks = ['0.0.0.0/0']\n", 8, "relay.networks", "open relay", "your own networks"),
    (GOOD + "[relay]\nnetworks = ['home']\n", 8, "relay.networks", "no network", "192.0.2.0/24"),
    (GOOD + "[relay]\nnetworks = '10.0.0.0/8'\n", 8, "relay.networks", "not a list", "networks = ["),
    (GOOD + "[[route]]\ndomains = []\nto = 'mx:'\n", 8, "route.domains", "names no domain", "a name"),
    (GOOD + "[[route]]\ndomains = ['*.a']\nto = 'mx:'\n", 8, "route.domains", "wildcard", 'rite "a"'),
    (GOOD + "[[route]]\ndomains = ['']\nto = 'mx:'\n", 8, "route.domains", "no domain name", "example.com"),
    (GOOD + ROUTE, 7, "route.to", "missing", "smtp://"),
    (GOOD + ROUTE + "to = 'lmtp:/run/lmtp'\n", 9, "route.to", "no host", '"lmtp:///run/lmtp"'),
    (GOOD + ROUTE + "to = 'maildir:/var/mail/{user}'\n", 9, "route.to", "'{'", "%u"),
    (GOOD + ROUTE + "to = 'maildir:/var/mail/%n'\n", 9, "route.to", "'%n'", "%u"),
    (GOOD + ROUTE + "to = 'https://u:p@x/'\n", 9, "route.to", "credentials", "secret_file"),
    (GOOD + ROUTE + "to = 'pipe:/no/such/program'\nrun_as = 'nobody'\n", 9, "route.to", "is no program", "executed"),
    (GOOD + ROUTE + "to = 'pipe:/bin/cat'\nrun_as = 'no-such'\n", 10, "route.run_as", "no user 'no-such'", "there"),
    (GOOD + ROUTE + "to = 'mx:'\nca = 'x'\n", 10, "route.ca", "no effect on mx:", "a webhook"),
    (GOOD + ROUTE + "to = 'https://x/'\nca = 'gone'\n", 10, "route.ca", "gone cannot be read", "Let this user"),
    (GOOD + ROUTE + "to = 'mx:'\nsecret_file = 'x'\n", 10, "route.secret_file", "no effect on mx:", "a webhook"),
    (GOOD + ROUTE + "to = 'https://x/'\nmemory = '1G'\n", 10, "route.memory", "no effect on https://x/", "a program"),
    (GOOD + "[tracing]\nendpoint = 'localhost:4318'\n", 8, "tracing.endpoint", "is no http address", "4318"),
    (GOOD + "[tracing]\nshare = 2\n", 8, "tracing.share", "2", "1"),
    (GOOD + ROUTE + "to = 3\n", 9, "route.to", "3 is no place", "to ="),
    (GOOD + ROUTE + "to = [3]\n", 9, "route.to", "is no place", "to ="),
    (GOOD + ROUTE + "to = []\n", 9, "route.to", "names no place", '"mx:"'),
    (GOOD + ROUTE + "to = ['mx:', 'smtp://a']\n", 9, "route.to", "mixes", "a route of its own"),
    (GOOD + ROUTE + "to = 'smtp://127.0.0.1:2525'\n", 9, "route.to", "our own listener on line 5", "Name the host"),
    (GOOD + ROUTE + "to = 'smtp://localhost:2525'\n", 9, "route.to", "loop", "Name the host"),
    (GOOD + ROUTE + "to = 'smtp://mx.example.net:2525'\n", 9, "route.to", "loop", "Name the host"),
    (GOOD + ROUTE + "to = 'mx:'\ntls = 'yes'\n", 10, "route.tls", '"yes" is not', "'verify'"),
    (GOOD + ROUTE + "to = 'capture:'\ntls = 'verify'\n", 10, "route.tls", "no effect", "Leave it out"),
    (GOOD + ROUTE + "to = 'mx:'\nconcurrency = 0\n", 10, "route.concurrency", "too little", "least is 1"),
    (GOOD + ROUTE + "to = 'mx:'\nconcurrency = '2'\n", 10, "route.concurrency", "not a whole number", "= 20"),
    (GOOD + ROUTE + "to = 'mx:'\npassword_env = 'X'\n", 10, "route.password_env", "without a username", "username"),
    (
        GOOD + ROUTE + "to = 'smtp://a'\ntls = 'verify'\nusername = 'u'\n",
        11,
        "route.username",
        "password",
        "password_file",
    ),
    (
        GOOD + ROUTE + ROUTE.replace("[[route]]\n", "to='mx:'\n[[route]]\n") + "to = 'mx:'\n",
        11,
        "route.domains",
        "line 8",
        "one",
    ),
    (
        GOOD + ROUTE + "to='mx:'\nname='x'\n[[route]]\ndomains=['b.c']\nto='mx:'\nname='x'\n",
        14,
        "route.name",
        "line 10",
        "one",
    ),
    (
        GOOD + ROUTE + "to='mx:'\nname='b.c'\n[[route]]\ndomains=['b.c']\nto='mx:'\n",
        12,
        "route.domains",
        "line 10",
        "one",
    ),
    (
        GOOD + "[[route]]\ndomains = ['*']\nto = 'mx:'\naccept_from = 'anyone'\n",
        10,
        "route.accept_from",
        "open relay",
        "own",
    ),
    (GOOD + "[retry]\nschedule = []\n", 8, "retry.schedule", "is empty", '"1m"'),
    (GOOD + "[retry]\nschedule = ['5m', '5']\n", 8, "retry.schedule", "no duration", '"5m"'),
    (GOOD + "[retry]\nexpire = '0s'\n", 8, "retry.expire", "out of bounds", "366d"),
    (GOOD + "[retry]\nexpire = 5\n", 8, "retry.expire", "5 is no duration in quotes", '"5d"'),
    (GOOD + "[retry]\nexpire = true\n", 8, "retry.expire", "true is no duration in quotes", '"5d"'),
    (GOOD + "[retry]\njitter = 2.0\n", 8, "retry.jitter", "too much", "most is 1"),
    (GOOD + "[limits]\nmessage_size = '1K'\n", 8, "limits.message_size", "too little", "64K"),
    (GOOD + "[limits]\nmessage_size = 1\n", 8, "limits.message_size", "1 is no size in quotes", '"50M"'),
    (GOOD + "[limits]\nrecipients = 10\n", 8, "limits.recipients", "too little", "100"),
    (GOOD + ROUTE + "to = 'smtp://a'\nexternal = true\n", 10, "route.external", "client_certificate", "no username"),
    (GOOD + ROUTE + "to = 'smtp://a'\nclient_key = 'k'\n", 10, "route.client_key", "of no use", "client_certificate"),
    (
        GOOD + ROUTE + "to = 'smtp://a'\nclient_certificate = 'gone.pem'\n",
        10,
        "route.client_certificate",
        "cannot be read",
        "",
    ),
    (GOOD + ROUTE + "to = 'smtp://a'\nact_as = 'bob'\n", 10, "route.act_as", "needs a login", "username"),
    (GOOD + "[auth]\nmechanisms = ['EXTERNAL']\n", 8, "auth.mechanisms", "no listener asks", "client_ca"),
    (GOOD + "[dkim]\nselector = 'one'\nkey = 'nowhere.pem'\n", 7, "dkim.domain", "is missing", "none of them"),
    (GOOD + "[dkim]\nkey = 'nowhere.pem'\n", 8, "dkim.key", "cannot be read", "Let this user"),
    (GOOD + "[dkim]\ndomain = 'a b'\n", 8, "dkim.domain", "'a b'", "hyphens"),
    (GOOD + "[dns]\nhosts_file = 'yes'\n", 8, "dns.hosts_file", "neither true nor false", "true"),
    (GOOD + "[dns]\nservers = ['dns.example']\n", 8, "dns.servers", "no numeric", "192.0.2"),
]


@pytest.mark.parametrize(
    ("text", "line", "key", "problem", "remedy"), WRONG, ids=[f"{row[2]}: {row[3]}" for row in WRONG]
)
def test_each_mistake_is_told_with_its_line_and_remedy(
    text: str, line: int, key: str, problem: str, remedy: str
) -> None:
    found = [one for one in refused(text) if one.key == key]
    assert [(one.line, problem in one.problem, remedy in one.remedy) for one in found] == [(line, True, True)], found


def test_a_mistake_is_told_in_one_line_of_text() -> None:
    complaints = parse(GOOD + "[retry]\nexpir = '5d'\n", where="/etc/w.toml", base=Path("/etc"))
    assert str(complaints) == "/etc/w.toml:8: retry.expir: is no setting of this section. Did you mean expire?"


def test_all_mistakes_are_told_at_once_in_the_order_of_lines() -> None:
    complaints = refused(
        SERVICE.replace("mx.", "") + "x = 1\n[[listener]]\n[[route]]\nto = 'x'\n[admin]\naddress = '9.9.9.9:1'\n"
    )
    assert [one.line for one in complaints] == sorted(one.line for one in complaints)
    assert [one.key for one in complaints] == [
        "service.x",
        "listener.address",
        "route.to",
        "admin.address",
    ]


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("to = 'smtp://a'\nusername = 'u'\npassword_env = 'HOME'\n", "could read the password"),
        ("to = 'smtp://a'\ntls = 'none'\nusername = 'u'\npassword_env = 'HOME'\n", "could read the password"),
        ("to = 'mx:'\ntls = 'verify'\nusername = 'u'\npassword_env = 'HOME'\n", "no password is ever given"),
        ("to = 'lmtp://a'\nusername = 'u'\npassword_env = 'HOME'\n", "no password is ever given"),
    ],
)
def test_a_password_goes_nowhere_it_could_be_read(route: str, words: str) -> None:
    complaint = only(GOOD + ROUTE + route)
    assert complaint.key == "route.username"
    assert words in complaint.problem


@pytest.mark.parametrize(
    ("octets", "words"),
    [(b"", "not hold one line"), (b"two\nlines\n", "not hold one line"), (b"\xff", "not UTF-8")],
)
def test_a_password_file_holds_one_line(tmp_path: Path, octets: bytes, words: str) -> None:
    (tmp_path / "secret").write_bytes(octets)
    text = "to = 'smtp://a'\ntls = 'verify'\nusername = 'u'\npassword_file = 'secret'\n"
    (complaint,) = refused(GOOD + ROUTE + text, base=tmp_path)
    assert (complaint.line, complaint.key) == (12, "route.password_file")
    assert words in complaint.problem


def test_a_byte_order_mark_before_the_first_line_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text(GOOD, encoding="utf-8-sig")
    assert isinstance(load(tmp_path / "w.toml"), Config)


def test_a_password_file_that_is_missing_is_named(tmp_path: Path) -> None:
    text = "to = 'smtp://a'\ntls = 'verify'\nusername = 'u'\npassword_file = 'secret'\n"
    (complaint,) = refused(GOOD + ROUTE + text, base=tmp_path)
    assert f"{tmp_path}/secret cannot be read" in complaint.problem
    assert complaint.remedy == "Write the password into it, and nothing else"


def test_a_spool_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    (complaint,) = refused(GOOD, base=tmp_path)
    assert (complaint.line, complaint.key) == (3, "service.spool")


# ---- files that are no TOML, or no file
@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[service]\nhostname = \n", 2, "column 12"),
        ("a = [1,\n", 2, "end of the file"),
        ("a = 1\na = 2\n", 2, "column 6"),
        ("a = 1\na = 2\n", 2, "there already"),
        ("[a]\n[a]\n", 2, "there already"),
    ],
)
def test_what_is_no_toml_is_told_with_its_place(text: str, line: int, words: str) -> None:
    complaint = only(text)
    assert complaint.line == line
    assert words in complaint.problem


def test_a_file_that_cannot_be_read_is_a_complaint(tmp_path: Path) -> None:
    missing = load(tmp_path / "none.toml")
    assert "none.toml: The configuration cannot be read: No such file" in str(missing)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    assert "not UTF-8 text, from its octet 2 on" in str(load(tmp_path / "latin.toml"))


@given(st.text(max_size=60), st.integers(0, len(GOOD)))
def test_any_text_is_a_config_or_complaints(junk: str, place: int) -> None:
    parse(GOOD[:place] + junk + GOOD[place:], where="w.toml", base=Path("/nonexistent"))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(st.sampled_from([(name, key) for name, model in SECTIONS.items() for key in model.model_fields]), json_like)
def test_a_value_of_any_kind_is_accepted_or_complained_of(setting: tuple[str, str], value: object) -> None:
    section, key = setting
    head = f"[[{section}]]" if section in ARRAYS else f"[{section}]"
    text = f"{head}\n{key} = {spelled(value)}\n"
    tomllib.loads(text)
    assert isinstance(parse(text, where="w.toml", base=Path("/nonexistent")), Complaints)


def spelled(value: object) -> str:
    """A Python value as TOML has it; None as an empty table."""
    match value:
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(map(spelled, value))}]"
        case dict():
            return "{" + ", ".join(f'"{key}" = {spelled(inner)}' for key, inner in value.items()) + "}"
        case str():
            return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value if letter.isprintable()) + '"'
        case int() | float():
            return str(value)
        case _:
            return "{}"


# ---- the manual
def test_the_manual_is_what_the_models_say() -> None:
    """To bring it up to date: python -c 'from waypost.config import reference; print(reference(), end="")'."""
    assert (ROOT / "docs/reference/config.md").read_text("utf-8") == reference()


def test_the_manual_explains_every_setting() -> None:
    text = reference()
    for name, model in SECTIONS.items():
        assert f"{name}]" in text
        for key, field in model.model_fields.items():
            assert field.description, f"{name}.{key} has no description"
            assert f"| `{key}` | " in text


@pytest.mark.parametrize("name", TABLES)
def test_the_defaults_in_the_manual_can_be_written_out(name: str) -> None:
    """Writing every default of a section into the file changes nothing."""
    _, _, section = reference().partition(f"## `[{name}]`")
    rows = [line.split(" | ") for line in section.partition("##")[0].splitlines() if line.startswith("| `")]
    settings = [f"{key.strip('| `')} = {default.strip('`')}" for key, *_, default, _ in rows if default != "required"]
    assert len(settings) + (3 if name == "service" else 0) == len(TABLES[name].model_fields)
    text = f"{LISTENER}{SERVICE}" if name == "service" else f"{GOOD}[{name}]\n"
    written = accepted(text + "\n".join(settings) + "\n")
    assert getattr(written, name) == getattr(accepted(GOOD), name)


def test_no_credentials_are_made_up() -> None:
    assert accepted(GOOD + ROUTE + "to = 'smtp://a'\n").rules[0].means.credentials == NoCredentials()


@pytest.mark.parametrize(
    ("auth", "complaint"),
    [
        ('users = "users"\npam_service = "login"', "passwords are known to users already"),
        ('ldap_url = "ldaps://ldap.example.net"\nldap_dn = "uid=alice"', "has no %u"),
        ('issuer = "https://issuer.example"', "its keys or our audience are missing"),
        ('issuer_keys = "http://issuer.example/keys"', "anybody on the way could change the keys"),
    ],
)
def test_accounts_that_nobody_could_judge_are_complained_of(auth: str, complaint: str) -> None:
    found = parse(f"{GOOD}\n[auth]\n{auth}\n", where="waypost.toml", base=Path("/nowhere"))
    assert isinstance(found, Complaints)
    assert complaint in str(found)


def test_only_what_can_be_judged_is_offered() -> None:
    def offered(auth: str) -> tuple[str, ...]:
        found = parse(f"{GOOD}\n[auth]\n{auth}\n", where="waypost.toml", base=Path("/nowhere"))
        assert isinstance(found, Config), str(found)
        return mechanisms(found)

    by_token = 'issuer = "https://i.example"\nissuer_keys = "keys"\nissuer_audience = "us"'
    assert offered("") == ()
    assert offered('users = "users"') == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert offered('pam_service = "login"') == ("PLAIN", "LOGIN")
    assert offered(by_token) == ("OAUTHBEARER", "XOAUTH2")
    assert offered('users = "users"\nmechanisms = ["SCRAM-SHA-256-PLUS", "XOAUTH2"]') == ("SCRAM-SHA-256-PLUS",)


def test_a_listener_for_http_has_no_starttls() -> None:
    problems = [each.problem for each in refused(GOOD + 'role = "http"\ntls = "required"\n')]
    assert '"required" is STARTTLS, which HTTP does not have' in problems


def test_a_pickup_directory_is_a_directory_or_the_place_of_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    pickup = GOOD + '[pickup]\ndirectory = "{}"\n'
    assert accepted(pickup.format("box"), tmp_path).pickup_directory == tmp_path / "box"
    (complaint,) = refused(pickup.format("file"), tmp_path)
    assert complaint.problem == f"{tmp_path / 'file'} is not a directory"


def test_hooks_are_modules_that_are_there_and_each_has_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "policy.py").write_text("async def mail(event): ...\nraise SystemExit  # nobody runs it to check\n")
    text = GOOD + '[[hook]]\nmodule = "policy.py"\nsettings = { limit = 3 }\n'
    (hook,) = accepted(text, tmp_path).hooks
    assert (hook.section.settings, hook.section.budget, hook.place) == ({"limit": 3}, timedelta(seconds=5), "w.toml:7")
    (twice,) = refused(text + '[[hook]]\nmodule = "policy.py"\n', tmp_path)
    assert twice.problem == 'the hook on line 7 is "policy" too'
    (missing,) = refused(GOOD + '[[hook]]\nmodule = "none.py"\n', tmp_path)
    assert "none.py cannot be read" in missing.problem


def test_a_queue_in_a_database_keeps_this_nodes_own_things_in_its_state_directory() -> None:
    database = "postgresql://me:secret@db1.example.net:5432,db2.example.net/waypost"
    found = accepted(SERVICE.replace('"spool"', f'"{database}"') + "state = 'own'\n" + LISTENER)

    assert found.database == database
    assert found.spool == Path("/etc/waypost/own")
    assert found.queue_at == "postgresql://db1.example.net:5432,db2.example.net/waypost"


def test_a_queue_in_a_database_has_nodes_and_no_workers() -> None:
    complaint = only(SERVICE.replace('"spool"', '"postgresql://db"') + "workers = 2\n" + LISTENER)

    assert complaint.key == "service.workers"
    assert "run another node" in complaint.remedy


def test_a_queue_in_a_directory_has_no_database() -> None:
    found = accepted(SERVICE + LISTENER)

    assert (found.database, found.queue_at) == ("", "/etc/waypost/spool")


def test_a_queue_in_a_database_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    complaint = only(SERVICE.replace('"spool"', '"postgresql://db"') + LISTENER)

    assert "pip install 'waypost[postgres]'" in complaint.remedy


# ---- the object store of a cluster
CLUSTER = GOOD.replace('"spool"', '"postgresql://h/w"') + "[cluster]\n"
STORE = 'bodies = "s3://mail/queue?endpoint=https://s3.example.net"\n'


def test_a_store_has_its_key_from_a_file_or_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s3.secret").write_text("hush\n")
    (store,) = accepted(CLUSTER + STORE + 'bodies_key = "us"\nbodies_secret_file = "s3.secret"\n', tmp_path).stores
    assert (str(store.bucket), store.keys.access, store.keys.secret) == ("s3://mail/queue/", "us", "hush")
    assert store.inline == 64 * 1024
    for name, value in (("ACCESS_KEY_ID", "they"), ("SECRET_ACCESS_KEY", "know"), ("SESSION_TOKEN", "it")):
        monkeypatch.setenv(f"AWS_{name}", value)
    (store,) = accepted(CLUSTER + STORE + 'bodies_above = "16K"\n', tmp_path).stores
    assert (store.keys.access, store.keys.secret, store.keys.session) == ("they", "know", "it")
    assert store.inline == 16 * 1024


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        (STORE, "the store asks who we are, and there is no key", "Write bodies_key and bodies_secret_file"),
        (STORE + 'bodies_key = "us"\n', "needs one secret", "Write one of bodies_secret_file and bodies_secret_env"),
        ('bodies_key = "us"\n', "is for a store, and there is none", 'Write bodies = "s3://…" too'),
        ('bodies = "ftp://x"\nbodies_key = "us"\nbodies_secret_env = "HUSH"\n', "'ftp://x' is no bucket", "Write one"),
        (STORE + 'bodies_key = "us"\nbodies_secret_env = "GONE"\n', "the environment has no GONE", "Set it"),
    ],
)
def test_what_a_store_lacks_is_told(text: str, problem: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSH", "hush")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    complaint = only(CLUSTER + text)
    assert problem in complaint.problem
    assert complaint.remedy.startswith(remedy)

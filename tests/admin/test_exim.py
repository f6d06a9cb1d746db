"""An Exim configuration becomes one of ours that is in order, and what does not carry over is told with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.admin.translations import config, route, way
from tests.cli.service import asked
from tests.live.process import free_port
from waypost.admin.exim import Translator
from waypost.admin.exim_rules import retrying
from waypost.admin.exim_text import NotPlainError, configuration, expanded, items, lines_of, table
from waypost.admin.translation import Translation
from waypost.route.route import Reject, Route
from waypost.route.target import target_text
from waypost.smtp.login import Credentials
from waypost.smtp.path import parse_mailbox

#: What comes with Exim, and what Debian configures it with (setup.sh unpacks both for the live tests).
UNPACKED = Path("/var/cache/waypost-live/exim")
EXAMPLE = UNPACKED / "usr/share/doc/exim4-base/examples/example.conf"
TEMPLATE = UNPACKED / "etc/exim4/exim4.conf.template"
GUIDE = Path(__file__).parents[2] / "docs/howto/from-exim.md"

HEAD = """\
primary_hostname = mail.example.com
qualify_domain = example.com
domainlist local_domains = @ : example.com
domainlist relay_to_domains = relayed.example : *.sub.example
hostlist relay_from_hosts = <; 127.0.0.1 ; ::1 ; 192.168.0.0/16
"""
TRANSPORTS = """\
begin transports
remote_smtp:
  driver = smtp
smart:
  driver = smtp
  port = 587
  hosts_require_auth = *
  hosts_require_tls = *
  helo_data = out.example.com
  interface = 192.0.2.25
store:
  driver = lmtp
  socket = /run/lmtp
boxes:
  driver = appendfile
  maildir_format
  directory = /var/mail/$domain/$local_part
"""
BY_MX = f"begin routers\nall:\n  driver = dnslookup\n  transport = remote_smtp\n{TRANSPORTS}"


def translated(directory: Path, text: str) -> Translation:
    """The translation of a whole configuration."""
    (directory / "exim.conf").write_text(text)
    return Translator(directory / "exim.conf").translate()


def debian(directory: Path, answers: str, **files: str) -> Path:
    """Debian's directory, with files in it (`_` for `.`), and those of /etc beside it."""
    place = directory / "exim4"
    place.mkdir()
    (place / "update-exim4.conf.conf").write_text(answers)
    for name, text in files.items():
        beside = name in {"mailname", "aliases", "email_addresses"}
        at = directory if beside else place
        (at / name.replace("email_addresses", "email-addresses").replace("passwd_", "passwd.")).write_text(text)
    return place


SMARTHOST = """\
# a comment
dc_eximconfig_configtype='smarthost'
dc_other_hostnames='mail.example.com;example.com'
dc_local_interfaces='127.0.0.1 ; ::1'
dc_readhost='example.org'
dc_relay_domains='relayed.example;*.sub.example'
dc_relay_nets='192.168.1.0/24'
dc_smarthost='smtp.isp.example::587'
dc_use_split_config='false'
dc_hide_mailname='true'
"""


# ---- Debian's directory
def test_debians_smart_host_carries_over_with_its_password_which_is_shown_to_nobody(tmp_path: Path) -> None:
    place = debian(
        tmp_path,
        SMARTHOST,
        mailname="example.com\n",
        aliases="postmaster: root\nroot: ann@far.example\nnobody: /dev/null\n",
        email_addresses="ann: ann.b@isp.example\n",
        passwd_client="# comment\n*.isp.example:user:pa:ss\n",
        hubbed_hosts="dict.example: mail-1.example:mail-2.example\nbar.example: 192.168.183.3\n",
    )
    found = Translator(place).translate()
    ours = config(tmp_path, found)
    rest = route(ours, "bob@far.example")
    assert rest.credentials == Credentials("user", "pa:ss")
    assert (target_text(rest.transport), rest.tls.value) == ("smtp://smtp.isp.example:587", "verify")
    assert way(ours, "x@dict.example") == "smtp://mail-1.example:25,smtp://mail-2.example:25"
    assert way(ours, "x@bar.example") == "smtp://192.168.183.3:25"
    assert way(ours, "x@example.com").startswith("reject:550 5.2.1")
    assert [str(one.address) for one in ours.listeners] == ["127.0.0.1:25", "[::1]:25"]
    assert [str(one) for one in ours.relay.networks] == ["192.168.1.0/24", "127.0.0.1/32", "::1/128"]
    assert str(ours.service.postmaster) == "postmaster@example.com"
    assert "ann@example.com ann.b@isp.example\n" in found.files["sender-canonical"]
    assert "@mail.example.com @example.org\n" in found.files["generic"]
    told = " ".join(map(" ".join, found.left))
    assert way(ours, "nobody@example.com") == "discard:"
    assert "pa:ss" not in told + found.text


def test_debians_internet_site_goes_by_mx_and_takes_mail_for_its_relay_domains(tmp_path: Path) -> None:
    text = SMARTHOST.replace("'smarthost'", "'internet'").replace("'true'", "'false'")
    ours = config(tmp_path, Translator(debian(tmp_path, text, mailname="example.com\n")).translate())
    assert way(ours, "x@far.example") == "mx:far.example"
    open_to_all = {name: not route(ours, f"x@{name}").relay_only for name in ("relayed.example", "a.sub.example")}
    assert open_to_all == {"relayed.example": True, "a.sub.example": True}
    assert route(ours, "x@sub.example").relay_only  # Exim's *.sub.example is not sub.example itself
    assert route(ours, "x@far.example").relay_only


def test_debians_satellite_sends_its_users_mail_to_their_host(tmp_path: Path) -> None:
    text = SMARTHOST.replace("'smarthost'", "'satellite'")
    found = Translator(debian(tmp_path, text, mailname="example.com\n")).translate()
    assert way(config(tmp_path, found), "x@example.org") == "smtp://smtp.isp.example:587"
    assert "@example.com @example.org\n" in found.files["generic"]  # hub_user makes the same of recipients


def test_debians_local_site_refuses_mail_for_others(tmp_path: Path) -> None:
    text = SMARTHOST.replace("'smarthost'", "'local'")
    ours = config(tmp_path, Translator(debian(tmp_path, text, mailname="example.com\n")).translate())
    rest = route(ours, "x@far.example").transport
    assert isinstance(rest, Reject)
    assert "Mailing to remote domains not supported" in str(rest.reply)


def test_what_somebody_added_to_debians_template_is_told(tmp_path: Path) -> None:
    place = debian(tmp_path, SMARTHOST.replace("split_config='false'", "split_config='true'"), mailname="example.com\n")
    (place / "conf.d/router").mkdir(parents=True)
    (place / "conf.d/router/00_header").write_text("begin routers\n")
    (place / "conf.d/router/250_ours").write_text("ours:\n  driver = dnslookup\n  transport = remote_smtp\n")
    macros = "CHECK_RCPT_IP_DNSBLS = bl.example\nREMOTE_SMTP_SMARTHOST_PROTOCOL = smtps\n"
    (place / "exim4.conf.localmacros").write_text(macros)
    found = Translator(place).translate()
    assert way(config(tmp_path, found), "x@far.example") == "smtps://smtp.isp.example:587"
    told = dict(found.left)
    assert "yours" in told["250_ours:1: ours"]
    assert "[[dns_list]]" in told["exim4.conf.localmacros:1: CHECK_RCPT_IP_DNSBLS = bl.example"]


# ---- a whole configuration
def test_routers_become_routes_by_their_order(tmp_path: Path) -> None:
    (tmp_path / "hubs").write_text("hub.example: 10.0.0.9::2525\n*.deep.example: next.example/mx\n")
    (tmp_path / "aliases").write_text(
        'info: ann, "bob@far.example"\nprog: |/bin/x\nleft: :fail: she has left\n*: ann\n'
    )
    text = f"""{HEAD}
HUBS = {tmp_path}/hubs
begin routers
hubs:
  driver = manualroute
  domains = partial-lsearch;HUBS
  route_data = ${{lookup{{$domain}}partial-lsearch{{HUBS}}}}
  transport = remote_smtp
listed:
  driver = manualroute
  route_list = one.example 10.0.0.1 byname ; \\
               two.example "10.0.0.2::26 : [2001::db8::::7]" randomize
  transport = smart
bad:
  driver = redirect
  domains = bad.example
  data = :fail: 5.1.2 no such domain
gone:
  driver = redirect
  domains = gone.example
  data = :blackhole:
outside:
  driver = dnslookup
  domains = ! +local_domains
  transport = remote_smtp
  no_more
aliases:
  driver = redirect
  data = ${{lookup{{$local_part}}lsearch*{{{tmp_path}/aliases}}}}
local:
  driver = accept
  transport = store
{TRANSPORTS}
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^user^pa::^^ss
"""
    found = translated(tmp_path, text)
    ours = config(tmp_path, found)
    assert way(ours, "x@hub.example") == "smtp://10.0.0.9:2525"
    assert way(ours, "x@below.hub.example") == "mx:below.hub.example"
    assert way(ours, "x@a.deep.example") == "mx:next.example"
    assert way(ours, "x@deep.example") == "mx:next.example"
    assert way(ours, "x@two.example") == "smtp://10.0.0.2:26,smtp://[2001:db8::7]:587"
    one = route(ours, "x@one.example")
    assert (target_text(one.transport), one.tls.value) == ("smtp://10.0.0.1:587", "required")
    assert one.credentials == Credentials("user", "pa:^ss")
    assert way(ours, "x@bad.example").startswith("reject:550 5.1.2 no such domain")
    assert way(ours, "x@gone.example") == "discard:"
    assert way(ours, "x@far.example") == "mx:far.example"
    assert way(ours, "x@example.com") == "lmtp:///run/lmtp"
    assert found.files["aliases"].startswith("info ann, bob@far.example\n@mail.example.com ann\n@example.com ann\n")
    assert way(ours, "left@example.com").startswith("reject:550 5.1.1 she has left")
    assert way(ours, "left@far.example") == "mx:far.example"
    assert any("prog: |/bin/x" in setting for setting, _ in found.left)


def test_a_store_of_mailboxes_in_maildirs_carries_over_with_subaddresses_and_users(tmp_path: Path) -> None:
    text = f"""{HEAD}
begin routers
users:
  driver = accept
  domains = +local_domains
  local_parts = ann : bob
  local_part_suffix = +*
  local_part_suffix_optional
  transport = boxes
{TRANSPORTS}"""
    found = translated(tmp_path, text)
    ours = config(tmp_path, found)
    assert way(ours, "ann@example.com") == "maildir:/var/mail/%d/%u"
    assert [(each.section.users, each.section.subaddress) for each in ours.domains] == [(("users-users",), "+")]
    assert found.files["users-users"] == "ann ann\nbob bob\n"
    assert "users-users" in found.text


def test_a_smart_host_may_be_for_some_senders(tmp_path: Path) -> None:
    text = f"""{HEAD}
begin routers
shop:
  driver = manualroute
  domains = ! +local_domains
  fallback_hosts = 10.0.0.7:10.0.0.8
  senders = shop@example.com : *@shop.example
  route_list = * 10.0.0.1
  transport = remote_smtp
odd:
  driver = manualroute
  senders = ^x
  route_list = * 10.0.0.2
  transport = remote_smtp
rest:
  driver = dnslookup
  domains = ! +local_domains
  transport = remote_smtp
{TRANSPORTS}"""
    found = translated(tmp_path, text)
    table = config(tmp_path, found).route_table()
    ways = []
    for sender in ("shop@example.com", "x@shop.example", "x@a.shop.example"):
        one = table.route(parse_mailbox("x@far.example"), parse_mailbox(sender))
        assert isinstance(one, Route)
        ways.append(target_text(one.transport))
    assert ways == ["smtp://10.0.0.1:25", "smtp://10.0.0.1:25", "mx:far.example"]
    assert "'^x'" in dict(found.left)["exim.conf:15: router odd"]
    assert 'fallback = ["smtp://10.0.0.7:25", "smtp://10.0.0.8:25"]' in found.text


def test_each_domain_may_have_an_alias_file_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "virtual").mkdir()
    (tmp_path / "virtual/one.example").write_text("info: ann@far.example\n")
    (tmp_path / "virtual/two.example").write_text("info: bob@far.example\n*: carl@far.example\n")
    text = f"""{HEAD}
domainlist virtual = dsearch;{tmp_path}/virtual
begin routers
virtual:
  driver = redirect
  domains = +virtual
  data = ${{lookup{{$local_part}}lsearch*{{{tmp_path}/virtual/$domain}}}}
  no_more
"""
    found = translated(tmp_path, text)
    config(tmp_path, found)
    assert found.files["aliases"] == (
        "info@one.example ann@far.example\ninfo@two.example bob@far.example\n@two.example carl@far.example\n"
    )


def test_limits_interfaces_certificates_retries_and_rewriting_carry_over(tmp_path: Path) -> None:
    text = f"""{HEAD}
local_interfaces = <; 192.0.2.1 ; 192.0.2.1.2525 ; [2001:db8::1]:26
daemon_smtp_ports = smtp : 465
tls_certificate = /etc/ssl/mail.pem
tls_privatekey = /etc/ssl/mail.key
message_size_limit = 20M
recipients_max = 200
smtp_accept_max = 50
delay_warning = 2h:8h
begin retry
* * F,1h,20m; G,4h,1h,2; F,3d,8h
begin rewrite
*@old.example $1@new.example
ann@example.com ann.b@example.org Ffrs
*@[0-9] ${{extract{{1}}{{:}}{{$1}}}}
"""
    found = translated(tmp_path, text)
    assert 'certificate = "/etc/ssl/mail.pem"\nkey = "/etc/ssl/mail.key"' in found.text
    found.text = found.text.replace("/etc/ssl/mail", f"{tmp_path}/mail")  # checked for what is in them: not here
    assert 'address = "192.0.2.1:25"' in found.text
    assert 'address = "192.0.2.1:465"\nrole = "submission"\ntls = "implicit"' in found.text
    assert 'address = "192.0.2.1:2525"' in found.text
    assert 'address = "[2001:db8::1]:26"' in found.text
    assert 'message_size = "20M"\nrecipients = 200\nconnections = 50' in found.text
    assert 'schedule = ["20m", "20m", "20m", "1h", "2h", "8h"]\nexpire = "3d"\ndelay_notice = "2h"' in found.text
    assert found.files["canonical"] == "@old.example @new.example\n"
    assert found.files["sender-canonical"] == "ann@example.com ann.b@example.org\n"
    assert any(setting.startswith("exim.conf:20: *@[0-9]") for setting, _ in found.left), found.left


def test_what_does_not_carry_over_is_told_with_its_line_and_no_secret_is(tmp_path: Path) -> None:
    text = f"""{HEAD}
hide mysql_servers = localhost/db/user/secret1
pgsql_servers = localhost/db/user/secret2
odd_setting = 1
acl_smtp_rcpt = check
begin acl
check:
  accept hosts = +relay_from_hosts
         control = submission
  deny message = listed
       dnslists = bl.example
  require domains = +local_domains : +relay_to_domains
  accept
begin routers
special:
  driver = manualroute
  condition = ${{if eq{{1}}{{1}}}}
  route_list = * 10.0.0.1
  transport = smart
outside:
  driver = dnslookup
  domains = ! +local_domains
  transport = nowhere
local:
  driver = accept
  transport = mbox
{TRANSPORTS}
mbox:
  driver = appendfile
  file = /var/mail/$local_part
begin authenticators
client:
  driver = plaintext
  client_send = ^user^${{lookup{{secret3}}lsearch{{/x}}}}
"""
    found = translated(tmp_path, text)
    ours = config(tmp_path, found)
    assert way(ours, "x@example.com").startswith("reject:550 5.2.1")
    told = dict(found.left)
    assert "[[dns_list]]" in told["exim.conf:15: check: deny message = listed dnslists = bl.example"]
    assert told["exim.conf:9: odd_setting = 1"] == "nothing here is called so"
    assert "no transport 'nowhere'" in told["exim.conf:25: router outside"]
    assert "hook" in told["exim.conf:22: special: condition = ${if eq{1}{1}}"]
    assert not any(f"secret{n}" in " ".join(each) for each in found.left for n in (1, 2, 3))


def test_who_may_relay_is_what_the_acl_of_recipients_says_and_no_other(tmp_path: Path) -> None:
    text = """\
acl_smtp_connect = connect
acl_smtp_rcpt = rcpt
begin acl
connect:
  accept hosts = 198.51.100.1
rcpt:
  accept hosts = :
  accept hosts = !10.1.2.3 : 10.1.0.0/16
  accept hosts = 203.0.113.1
         senders = a@b.example
  accept domains = one.example
         senders = x@y.example : two.example
  accept domains = three.example
         endpass
         verify = recipient
"""
    found = translated(tmp_path, text + BY_MX)
    ours = config(tmp_path, found)
    assert [str(one) for one in ours.relay.networks] == ["10.1.0.0/16"]
    assert [str(one) for one in ours.relay.never] == ["10.1.2.3/32"]
    taken = {name: not route(ours, f"x@{name}.example").relay_only for name in ("one", "two", "three")}
    assert taken == {"one": False, "two": False, "three": True}
    told = [setting.partition(": ")[0] for setting, _ in found.left if setting.startswith("exim.conf")]
    assert told == ["exim.conf:5", "exim.conf:9", "exim.conf:11"]


def test_a_list_of_our_domains_that_ends_in_a_negation_is_an_open_relay_and_told(tmp_path: Path) -> None:
    text = "domainlist local_domains = a.example : !b.example\ndomainlist relay_to_domains = b.example\n"
    found = translated(tmp_path, text + BY_MX)
    ours = config(tmp_path, found)
    taken = {name: not route(ours, f"x@{name}.example").relay_only for name in ("a", "b", "c")}
    assert taken == {"a": True, "b": True, "c": False}
    assert any("open relay" in remedy for _, remedy in found.left)


@pytest.mark.skipif(not EXAMPLE.exists(), reason="Exim is not unpacked (tests/live/setup.sh)")
def test_the_configuration_that_comes_with_exim_is_in_order(tmp_path: Path) -> None:
    found = Translator(EXAMPLE, "mail.example.com").translate()
    ours = config(tmp_path, found)
    assert way(ours, "x@far.example") == "mx:far.example"
    assert way(ours, "x@mail.example.com").startswith("reject:550 5.2.1")
    assert [str(one) for one in ours.relay.networks] == ["127.0.0.0/8", "::1/128"]


@pytest.mark.skipif(not TEMPLATE.exists(), reason="Debian's template is not unpacked (tests/live/setup.sh)")
@pytest.mark.parametrize("kind", ["internet", "smarthost", "local"])
def test_debians_answers_and_what_debian_makes_of_them_come_to_the_same(tmp_path: Path, kind: str) -> None:
    place = debian(
        tmp_path,
        SMARTHOST.replace("'smarthost'", f"'{kind}'"),
        mailname="example.com\n",
        aliases="postmaster: root\nroot: ann@far.example\n",
        email_addresses="ann: ann.b@isp.example\n",
        passwd_client="*.isp.example:user:pa:ss\n",
        hubbed_hosts="dict.example: mail-1.example:mail-2.example\n*.bar.example: 192.168.183.3\n",
    )
    macros = {  # as update-exim4.conf(8) writes them
        "CONFDIR": str(place),
        "MAIN_LOCAL_INTERFACES": "<; 127.0.0.1 ; ::1",
        "MAIN_LOCAL_DOMAINS": "@:localhost:mail.example.com:example.com",
        "MAIN_RELAY_TO_DOMAINS": "<; relayed.example;*.sub.example",
        "ETC_MAILNAME": "example.com",
        "LOCAL_DELIVERY": "mail_spool",
        "MAIN_RELAY_NETS": "192.168.1.0/24 : 127.0.0.1 : ::::1",
        "DCreadhost": "example.org",
        "DCsmarthost": "smtp.isp.example::587",
        f"DCconfig_{kind}": "1",
        **({"HIDE_MAILNAME": "1"} if kind == "smarthost" else {}),
    }
    text = "".join(f"{name}={value}\n" for name, value in macros.items()) + TEMPLATE.read_text()
    for name in ("aliases", "email-addresses"):
        text = text.replace(f"/etc/{name}", f"{tmp_path}/{name}")
    by_answers, whole = Translator(place).translate(), translated(tmp_path, text)
    config(tmp_path, by_answers)
    assert (whole.text, whole.files) == (by_answers.text, by_answers.files)
    assert not any("yours" in remedy for _, remedy in by_answers.left)


# ---- the command
def test_the_guides_command_does_as_it_says(tmp_path: Path) -> None:
    place = debian(tmp_path, SMARTHOST, mailname="example.com\n")
    (command,) = re.findall(r"^    waypost (import exim .*)$", GUIDE.read_text(), re.MULTILINE)
    asked(*command.replace("/etc/exim4", str(place)).replace("imported", str(tmp_path / "imported")).split())
    written = tmp_path / "imported/waypost.toml"
    written.write_text(f'{written.read_text()}\n[admin]\naddress = "127.0.0.1:{free_port()}"\n')  # nobody answers there
    why = re.search(r"`waypost (explain --config imported.*?)`", GUIDE.read_text(), re.DOTALL)
    assert why is not None
    said = asked(*why[1].replace("imported", str(tmp_path / "imported")).split(), code=1)  # example.com ends there
    assert "no mailboxes are here yet" in said


def test_the_command_writes_files_nobody_else_can_read_and_keeps_what_is_there(tmp_path: Path) -> None:
    place = debian(tmp_path, SMARTHOST, mailname="example.com\n", passwd_client="*:user:pa:ss\n")
    said = asked("import", "exim", "--from", str(place), "--into", str(tmp_path / "out"))
    assert "waypost.toml" in said
    assert "pa:ss" not in said
    assert (tmp_path / "out/smtp.isp.example.password").read_text() == "pa:ss\n"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "out").iterdir())
    asked("check", "--config", str(tmp_path / "out/waypost.toml"))
    asked("import", "exim", "--from", str(place), "--into", str(tmp_path / "out"), code=1)
    asked("import", "exim", "--from", str(tmp_path / "nowhere"), "--into", str(tmp_path / "more"), code=1)


# ---- the text
def test_macros_conditions_includes_and_continued_lines_are_followed(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("received_headers_max = 7\n")
    text = f"""\
SIZE = 5M
.ifdef SIZE
message_size_limit = \\
  # between
  SIZE
.else
message_size_limit = 1M
.endif
.ifndef SIZE
recipients_max = 1
.elifdef NOTHING
recipients_max = 2
.else
recipients_max = 3
.endif
.include {tmp_path}/more
.include {tmp_path}/gone
.include_if_exists {tmp_path}/gone
.endif
"""
    read = configuration(lines_of("c", text))
    values = {name: (option.place, option.value) for name, option in read.main.items()}
    assert values == {
        "message_size_limit": ("c:3", "5M"),
        "recipients_max": ("c:14", "3"),
        "received_headers_max": ("more:1", "7"),
    }
    assert [place.partition(" ")[0] for place, _ in read.odd] == ["c:17:", "c:19:"]


def test_macros_that_grow_beyond_measure_are_told(tmp_path: Path) -> None:
    text = "A0 = xxxxxxxxxx\n" + "".join(f"A{n + 1} = {f'A{n} ' * 10}\n" for n in range(9)) + "odd = A9\n"
    assert any("beyond all measure" in why for _, why in translated(tmp_path, text).left)


def test_a_file_that_includes_itself_is_read_to_a_depth(tmp_path: Path) -> None:
    found = translated(tmp_path, f"primary_hostname = a.example\n.include {tmp_path}/exim.conf\n")
    assert any("deeper" in why for _, why in found.left)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a : b", ["a", "b"]),
        ("<; a:b ; c", ["a:b", "c"]),
        ("host::587 : b", ["host:587", "b"]),
        ("", []),
        ("<, a,, b", ["a, b"]),
    ],
)
def test_lists_are_parted_as_exim_parts_them(text: str, expected: list[str]) -> None:
    assert items(text) == expected


def test_an_expansion_asks_for_files_alone(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    assert expanded(f"${{if exists{{{tmp_path}/there}}{{a}}{{b}}}}", {}) == "a"
    assert expanded(f"x${{if exists{{{tmp_path}/gone}}{{a}}fail}}y", {}) == "xy"
    with pytest.raises(NotPlainError):
        expanded("$local_part", {"primary_hostname": "a.example"})


@pytest.mark.parametrize("rule", ["", "X,1h,1m", "F,1h", "F,1h,0s", "G,1h,1m,0.5", "F,x,1m", "F,999999999w,1m"])
def test_what_is_no_retry_rule_is_told(rule: str) -> None:
    with pytest.raises(NotPlainError):
        retrying(rule)


#: Words that lead a random text into every corner.
CORNERS = """
begin_routers begin_acl begin_transports begin_retry begin_rewrite begin_authenticators domainlist_local_domains_=_
a: driver_=_manualroute driver_=_accept driver_=_redirect driver_=_smtp driver_=_appendfile driver_=_dnslookup
route_list_=_ route_data_=_ transport_=_a domains_=_ data_=_ hosts_require_auth_=_* client_send_=_ maildir_format
directory_=_ local_interfaces_=_ message_size_limit_=_ primary_hostname_=_ headers_rewrite_=_ local_parts_=_
${lookup{$domain}lsearch{/nowhere}} ${if_exists{ { } * ! + : :: ; <; / [ ] @ " \\ ^ $1 +local_domains 10.0.0.1 a.b
.ifdef .else .endif .include A_=_ * F,2h,15m; G,1h,1s,9 require accept deny domains_= hosts_= no_more 999999999999d
delay_warning_=_ recipients_max_=_ tls_certificate_=_ local_part_suffix_=_ local_part_suffix_optional interface_=_
*@+local_domains helo_data_=_ port_=_ protocol_=_lmtp fallback_hosts_=_ smtp_accept_max_=_ socket_=_ driver_=_lmtp
senders_=_ hostlist_relay_from_hosts_=_ :fail: :blackhole: $local_part@ a@b.example
"""
WORDS = st.sampled_from(CORNERS.split()).map(lambda word: word.replace("_=_", " = ").replace("begin_", "begin "))
TEXTS = st.lists(st.one_of(WORDS, st.sampled_from(["\n", "\n", "\n", " "]), st.text(max_size=6)), max_size=60)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(TEXTS)
@example(["domainlist local_domains = +local_domains\n"])
@example([HEAD, "begin routers\na:\n driver = manualroute\n route_list = * \n transport = a\n", TRANSPORTS])
def test_any_text_gives_a_configuration_that_is_in_order_or_a_report(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "exim.conf").write_text("".join(words), "utf-8", "replace")
    found = Translator(tmp_path / "exim.conf", "mail.example.com").translate()
    without_files = found.text.replace("[[certificate]]", "[[certificate]]")
    if "[[certificate]]" not in without_files and "client_certificate" not in without_files:
        (tmp_path / "waypost.toml").write_text(found.text)
        config(tmp_path, found)


@given(st.text())
def test_any_table_is_read(text: str) -> None:
    assert all(key for _, key, _ in table(text))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(), st.text(max_size=20), st.text(max_size=20))
def test_any_answers_of_debians_are_read(tmp_path: Path, text: str, hosts: str, domains: str) -> None:
    place = tmp_path / "any"
    place.mkdir(exist_ok=True)
    answers = f"dc_eximconfig_configtype=smarthost\ndc_smarthost='{hosts}'\ndc_other_hostnames='{domains}'\n{text}"
    (place / "update-exim4.conf.conf").write_text(answers, "utf-8", "replace")
    config(tmp_path, Translator(place, "mail.example.com").translate())


#: What stands in tables, more often than in other texts.
SIGNS = st.text(alphabet='ab.:;*! [1]/@+\n,|"\\#', max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(SIGNS, st.text()))
@example('" "0')
def test_any_table_gives_a_configuration_that_is_in_order(tmp_path: Path, rows: str) -> None:
    file = tmp_path / "rows"
    file.write_text(rows, "utf-8", "replace")
    text = f"""{HEAD}
begin routers
aliases:
  driver = redirect
  data = ${{lookup{{$local_part}}lsearch*{{{file}}}}}
hubs:
  driver = manualroute
  domains = partial-lsearch;{file}
  route_data = ${{lookup{{$domain}}partial-lsearch{{{file}}}}}
  transport = smart
{TRANSPORTS}
begin rewrite
*@+local_domains ${{lookup{{$1}}lsearch{{{file}}}{{$value}}fail}} Ff
"""
    config(tmp_path, translated(tmp_path, text))

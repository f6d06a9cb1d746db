"""From an Exim configuration to one of ours: what carries over as TOML, and a report of what does not, by its line.

Nothing of Exim is run. A directory as Debian has it is put into Exim's words first (exim_debian.py). Not here: reading
the text (exim_text.py), routers and transports (exim_routes.py, exim_transports.py), and writing files (moving.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from waypost.admin.exim_debian import is_debian, lines_of_debian
from waypost.admin.exim_lists import Item, Items, Source
from waypost.admin.exim_routes import Routers
from waypost.admin.exim_rules import Retrying, duration, map_text, retry, rewrites, seconds
from waypost.admin.exim_text import (
    Line,
    NotPlainError,
    Option,
    Statement,
    configuration,
    expanded,
    items,
    lines_of,
)
from waypost.admin.translation import Sheet, Translation, names
from waypost.config.units import parse_size
from waypost.route.domain import host_name, literal
from waypost.route.target import is_address

_PORTS: Final = {"smtp": "25", "submission": "587", "smtps": "465", "submissions": "465", "ssmtp": "465"}
_READ: Final = names(
    """
    primary_hostname qualify_domain qualify_recipient local_interfaces daemon_smtp_ports daemon_smtp_port
    tls_on_connect_ports tls_certificate tls_privatekey message_size_limit smtp_accept_max smtp_accept_max_per_host
    recipients_max received_headers_max smtp_accept_max_per_connection delay_warning
    """
)
#: Settings that say where Exim itself is, how it is run and what it logs, or what is so here anyway.
_OF_NO_MEANING: Final = names(
    """
    exim_path exim_user exim_group spool_directory log_file_path log_selector pid_file_path keep_environment
    add_environment gecos_pattern gecos_name never_users trusted_users trusted_groups untrusted_set_sender
    local_from_check local_sender_retain host_lookup dns_dnssec_ok prdr_enable ignore_bounce_errors_after
    timeout_frozen_after freeze_tell tls_advertise_hosts tls_require_ciphers tls_resumption_hosts rfc1413_hosts
    rfc1413_query_timeout accept_8bitmime smtp_enforce_sync daemon_startup_retries daemon_startup_sleep
    queue_run_max remote_max_parallel smtp_accept_queue smtp_accept_queue_per_connection split_spool_directory
    syslog_timestamp syslog_duplication check_spool_space check_spool_inodes smtputf8_advertise_hosts
    smtp_accept_max_nonmail_hosts smtp_accept_max_nonmail smtp_accept_reserve smtp_connect_backlog delivery_date_remove
    envelope_to_remove return_path_remove disable_ipv6 dns_csa_search_limit dsn_advertise_hosts
    pipelining_advertise_hosts chunking_advertise_hosts message_logs preserve_message_logs process_log_path
    deliver_queue_load_max queue_only_load queue_only smtp_return_error_details allow_domain_literals
    bounce_return_size_limit print_topbitchars strip_excess_angle_brackets strip_trailing_dot openssl_options
    gnutls_compat_mode hosts_treat_as_local auth_advertise_hosts smtp_banner tls_dhparam av_scanner
    helo_allow_chars helo_accept_junk_hosts daemon_modules_load tls_verify_hosts tls_try_verify_hosts
    tls_verify_certificates
    """
)
_HINTS: Final = {
    "acl_": "relay.networks, accounts and [[domain]] decide here; what else it does is told statement by statement",
    "dkim_": "verification of signatures: docs/howto/verification.md",
    "spamd_address": "a hook may ask it (docs/howto/content.md)",
    "system_filter": "a hook may do it (docs/howto/hooks.md)",
    "smtp_ratelimit": "a [[rate]] (docs/howto/rate-limits.md)",
    "host_reject_connection": "[access], docs/howto/access.md",
    "recipient_unqualified_hosts": "addresses are whole here",
    "sender_unqualified_hosts": "addresses are whole here",
    "bounce_message": "reports are worded by Waypost",
    "warn_message": "reports are worded by Waypost",
    "errors_copy": "[notices], docs/howto/notices.md",
    "smtp_etrn": "docs/howto/etrn.md",
    "mysql_servers": "a [[map]] (mysql) by hand",
    "pgsql_servers": "a [[map]] (postgres) by hand",
    "ldap_": "a [[map]] (ldap) by hand",
    "perl_startup": "a hook (docs/howto/hooks.md)",
}
#: May hold a password, also where nobody wrote `hide`.
_SECRET: Final = ("mysql_", "pgsql_", "ldap_", "redis_", "ibase_", "oracle_")
#: By a word in an ACL statement: what to do about it here.
_REMEDIES: Final = (
    ("dnslists", "a [[dns_list]] (docs/howto/greylisting-and-dns-lists.md)"),
    ("ratelimit", "a [[rate]] (docs/howto/rate-limits.md)"),
    ("spf", "docs/howto/verification.md"),
    ("dmarc", "docs/howto/verification.md"),
    ("dkim", "docs/howto/verification.md"),
    ("malware", "a hook may ask a scanner (docs/howto/content.md)"),
    ("spam", "a hook may ask a scanner (docs/howto/content.md)"),
    ("demime", "a hook may look into it (docs/howto/content.md)"),
    ("mime_", "a hook may look into it (docs/howto/content.md)"),
    ("local_parts=^", "a hook may refuse such local-parts (docs/howto/hooks.md)"),
    ("verify = header_", "a hook may look into the header (docs/howto/hooks.md)"),
    ("verify = sender", "[senders] (docs/howto/access.md)"),
    ("verify = recipient/callout", "a [[map]] with call_ahead in `users` of the [[domain]]"),
    ("sender", "[access] or [senders] (docs/howto/access.md)"),
    ("hosts", "[access] (docs/howto/access.md)"),
    ("helo", "[screening] (docs/howto/access.md)"),
)
#: Statements that say what Waypost does of itself, as `_plain` writes them.
_SAID_ANYWAY: Final = (
    re.compile(r"accept \| hosts=:"),
    re.compile(r"accept \| authenticated=\*"),
    re.compile(r"accept( \| local_parts=postmaster)?( \| domains=[^|]*)?"),
    re.compile(r"accept \| domains=[^|]* \| local_parts=postmaster"),
    re.compile(r"require \| domains=[^|]*"),
    re.compile(r"require \| verify=recipient"),
    re.compile(r"deny \| !verify=recipient"),
    re.compile(r"accept \| domains=[^|]*( \| endpass)? \| verify=recipient"),
    re.compile(r"warn|warn \| set acl_\w+=\w*"),
)
_TAKES: Final = re.compile(r"(?:require|accept) \| domains=([^|]*?)(?:(?: \| endpass)? \| verify=recipient)?")
_MODIFIERS: Final = re.compile(r"(message|log_message|logwrite|control|delay|log_reject_target)\s*=")


class Translator:
    """One Exim configuration, put into our words."""

    def __init__(self, source: Path, hostname: str = "") -> None:
        """`source`: a file, or the directory it is in; `hostname`: this machine's name, where it says none.

        Raises: OSError, where it cannot be read.
        """
        sheet = Sheet()
        found = configuration(_read(source, sheet))
        self._found, self._sheet, self._machine = found, sheet, hostname
        self._source = Source(found, self._values(), sheet)

    def translate(self) -> Translation:
        """The whole."""
        self._service()
        self._listeners()
        self._relay()
        self._limits()
        self._retry()
        self._rewriting()
        Routers(self._source, self._open_to_all()).write()
        self._acls()
        self._others()
        return self._sheet.translation()

    # ---- values
    def _values(self) -> dict[str, str]:
        """The names of Exim's that are known without a message."""
        said = self._found.main
        plain = {name: option.value for name, option in said.items() if name in ("primary_hostname", "qualify_domain")}
        host = _full_name(plain.get("primary_hostname", ""), _full_name(self._machine, ""))
        domain = plain.get("qualify_domain", "")
        try:
            domain = expanded(domain, {"primary_hostname": host})
        except NotPlainError:
            domain = ""
        domain = _full_name(domain, "")
        self._is_guessed = not host
        host = host or domain or "localhost.localdomain"
        return {"primary_hostname": host, "qualify_domain": domain or host, "smtp_active_hostname": host}

    def _value(self, name: str, default: str = "") -> str:
        option = self._found.main.get(name, Option("", name, default))
        try:
            return self._source.plain(option.value)
        except NotPlainError as error:
            self._source.leave(option, f"{error}; write it by hand")
            return default

    # ---- sections
    def _service(self) -> None:
        host, domain = self._source.values["primary_hostname"], self._source.values["qualify_domain"]
        if self._is_guessed:
            self._sheet.leave("primary_hostname", f"it is nowhere written; service.hostname is {host} now")
        self._sheet.add("[service]", hostname=host, spool="/var/spool/waypost", postmaster=f"postmaster@{domain}")

    def _listeners(self) -> None:
        certificate, key = self._value("tls_certificate"), self._value("tls_privatekey")
        implicit = {_PORTS.get(word, word) for word in items(self._value("tls_on_connect_ports"))}
        for address, port in dict.fromkeys(self._endpoints()):
            is_implicit = port in implicit or port == "465"
            shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            role = "submission" if port in {"587", "465"} else "mx"
            tls = "implicit" if is_implicit and certificate else ""
            self._sheet.add("[[listener]]", address=shown, role=role, tls=tls)
        if certificate:
            self._sheet.add("[[certificate]]", certificate=certificate, key=key or certificate)

    def _endpoints(self) -> Iterator[tuple[str, str]]:
        words = items(self._value("daemon_smtp_ports") or self._value("daemon_smtp_port") or "smtp")
        ports = [port for word in words if _is_port(port := _PORTS.get(word, word))] or ["25"]
        found = False
        for word in items(self._value("local_interfaces")):
            address, port = _address_and_port(word)
            if not address:
                where = self._found.main["local_interfaces"].place
                self._sheet.leave(f"{where}: local_interfaces: {word}", "no address; write a [[listener]]")
                continue
            for each in [port] if port else ports:
                found = True
                yield address, each
        if not found:
            yield from (("0.0.0.0", port) for port in ports)  # noqa: S104 - a mail server's listener, as Exim has it

    def _relay(self) -> None:
        """Who may send anywhere: `accept hosts = …` in an ACL, and by custom the list relay_from_hosts."""
        options = [Option(one.place, "hosts", hosts) for one in self._found.statements if (hosts := self._relays(one))]
        named = self._found.lists.get(("host", "relay_from_hosts"))
        if named is not None and not any("+relay_from_hosts" in one.value for one in options):
            options.append(named)
        listed = dict.fromkeys(network for option in options for network in self._source.networks(option))
        networks = [network for network in listed if not network.startswith("!")]
        self._sheet.add("[relay]", networks=networks, never=[one[1:] for one in listed if one.startswith("!")])

    def _is_of_recipients(self, one: Statement) -> bool:
        """Whether it is asked at RCPT: another ACL has no say in whose mail goes where."""
        return bool(one.acl) and one.acl == self._found.main.get("acl_smtp_rcpt", Option("", "", "")).value

    def _relays(self, one: Statement) -> str:
        """The hosts whose mail is taken wherever it goes, of `accept hosts = +relay_from_hosts`; "" of others."""
        found = re.fullmatch(r"accept \| hosts=([^|{}]+)", _plain(one))
        return found[1] if found is not None and found[1].strip() != ":" and self._is_of_recipients(one) else ""

    def _open_to_all(self) -> Items:
        """The domains that mail is taken for from anyone: by custom local_domains and relay_to_domains."""
        custom = [("domain", "local_domains"), ("domain", "relay_to_domains")]
        found = [self._found.lists[name] for name in custom if name in self._found.lists]
        for one in self._found.statements:
            listed = _TAKES.fullmatch(_plain(one))
            if listed is not None and self._is_of_recipients(one) and "!" not in listed[1]:
                found.append(Option(one.place, "domains", listed[1]))
        items_of: list[Items] = []
        for option in found:
            try:
                items_of.append(self._source.domains(option))
            except NotPlainError as error:
                self._source.leave(option, f"{error}; list the domains in a [[domain]] or [[route]]")
        return tuple(Item("", inner=listed) for listed in dict.fromkeys(items_of))

    def _limits(self) -> None:
        """Numbers that have their like here, where they are plain and within our bounds."""
        settings: dict[str, object] = {"message_size": self._size()}
        for theirs, ours, least in (
            ("recipients_max", "recipients", 100),
            ("smtp_accept_max", "connections", 1),
            ("smtp_accept_max_per_host", "connections_per_client", 1),
            ("smtp_accept_max_per_connection", "messages", 1),
            ("received_headers_max", "hops", 1),
        ):
            value = self._value(theirs)
            if re.fullmatch(r"\d{1,7}", value) and least <= int(value) <= 1_000_000:
                settings[ours] = int(value)
            elif value:
                self._source.leave(self._found.main[theirs], f"limits.{ours} stays as it is by default")
        if any(settings.values()):
            self._sheet.add("[limits]", **settings)

    def _size(self) -> str:
        value = self._value("message_size_limit")
        try:
            if value and parse_size(value) >= 64 * 1024:
                return value
        except ValueError:
            pass
        if value:
            self._source.leave(self._found.main["message_size_limit"], "limits.message_size stays as it is by default")
        return ""

    def _retry(self) -> None:
        found = retry(self._source)
        warning = items(self._value("delay_warning", "24h"))
        notice = "366d"  # later than anything expires: never
        try:
            if warning and seconds(warning[0]) > 0:
                notice = duration(warning[0])
        except NotPlainError as error:
            self._source.leave(self._found.main["delay_warning"], f"{error}; retry.delay_notice")
        self._sheet.add("[retry]", **_retry_settings(found), delay_notice=notice)

    def _rewriting(self) -> None:
        found: dict[str, list[tuple[str, str]]] = {}
        for line in self._found.rewrite:
            try:
                one = rewrites(self._source, line)
                found.setdefault(one.setting, []).extend(one.entries)
            except NotPlainError as error:
                self._sheet.leave(f"{line.place}: {' '.join(line.text.split())}", f"{error}; docs/howto/rewriting.md")
        settings = {
            setting: [self._sheet.map(setting.replace("_", "-"), text)]
            for setting, entries in found.items()
            if (text := map_text(entries))
        }
        if settings:
            self._sheet.add("[rewriting]", **settings)

    # ---- what is left
    def _acls(self) -> None:
        for one in self._found.statements:
            text = _plain(one)
            is_said = self._relays(one) or any(known.fullmatch(text) for known in _SAID_ANYWAY)
            if not one.verb or is_said or _is_of_nobody(one):
                continue
            shown = " ".join(f"{one.verb} {' '.join(one.conditions)}".split())
            remedy = next((remedy for word, remedy in _REMEDIES if word.replace(" ", "") in text.replace(" ", "")), "")
            if "{" in shown and not remedy:
                remedy = "a hook may ask such a condition (docs/howto/hooks.md)"
            text = f"{one.place}: {one.acl}: {shown[:160]}{'…' if len(shown) > 160 else ''}"
            self._sheet.leave(text, remedy or "no ACLs here: docs/howto/access.md, docs/howto/hooks.md")

    def _others(self) -> None:
        for name, option in self._found.main.items():
            if name in _READ | _OF_NO_MEANING or (name.startswith("acl_") and not option.value):
                continue
            if name.startswith("acl_") and any(one.acl == option.value for one in self._found.statements):
                continue  # told statement by statement
            hidden = option.hidden or name.startswith(_SECRET)
            shown = Option(option.place, name, option.value, hidden)
            remedy = next((hint for begin, hint in _HINTS.items() if name.startswith(begin)), "")
            self._source.leave(shown, remedy or "nothing here is called so")
        for driver in self._found.authenticators:
            if any(name.startswith("server_") for name in driver.options):
                remedy = "accounts: docs/howto/submission.md; passwords do not carry over"
                self._sheet.leave(f"{driver.place}: authenticator {driver.name}", remedy)
        self._sheet.left.extend(self._found.odd)


def _read(source: Path, sheet: Sheet) -> Iterable[Line]:
    if is_debian(source):
        return lines_of_debian(source, sheet)
    file = source if not source.is_dir() else _file_in(source)
    return list(lines_of(file.name, file.read_text("utf-8", "replace")))


def _file_in(directory: Path) -> Path:
    for name in ("exim.conf", "exim4.conf", "configure", "config.autogenerated"):
        if (directory / name).is_file():
            return directory / name
    return directory / "exim.conf"


def _full_name(text: str, default: str) -> str:
    """A host's full name, or an address in brackets, as service.hostname takes it."""
    try:
        if text.startswith("["):
            return str(literal(text))
        name = host_name(text)
    except ValueError:
        return default
    return name if "." in name and not is_address(name) else default


def _is_port(text: str) -> bool:
    return re.fullmatch(r"\d{1,5}", text, re.ASCII) is not None and 0 < int(text) < 65536


def _address_and_port(word: str) -> tuple[str, str]:
    """`192.0.2.1`, `192.0.2.1.25`, `::1`, `[::1]:25` or `::1.25`, of local_interfaces; "" where it is none."""
    in_brackets = re.fullmatch(r"\[([^\[\]]*)\]:+(\d+)", word, re.ASCII)
    address, port = (in_brackets[1], in_brackets[2]) if in_brackets is not None else (word.strip("[]"), "")
    if not is_address(address):
        address, _, port = address.rpartition(".")
    if not is_address(address) or "%" in address or (port and not _is_port(port)):
        return "", ""
    return {"::0": "::", "0::0": "::"}.get(address, address), port


def _plain(one: Statement) -> str:
    """`verb | condition=value | …`: without what only words an answer."""
    conditions = (" ".join(text.split()) for text in one.conditions if _MODIFIERS.match(text) is None)
    return " | ".join([one.verb, *(re.sub(r"\s*=\s*", "=", text.replace("|", "/"), count=1) for text in conditions)])


def _is_of_nobody(one: Statement) -> bool:
    """Whether it is for hosts, senders or recipients in a file that is not there, as Debian's ACLs ask for."""
    for text in one.conditions:
        name, _, value = text.partition("=")
        if name.strip() in {"hosts", "senders", "recipients"} and "${if" in value:
            try:
                if not expanded(value, {}):
                    return True
            except NotPlainError:
                pass
    return False


def _retry_settings(found: Retrying) -> dict[str, object]:
    return {"schedule": found.schedule, "expire": found.expire}

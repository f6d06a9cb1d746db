"""Debian's way to configure Exim: update-exim4.conf.conf and the files beside it, put into Exim's own words.

Debian makes a configuration out of answers and a template of many pages. What that template does is said here in a few
routers, each line with the place of the answer it stands for, and goes the way of every other configuration (exim.py).
What somebody has added to the template is told of. Not here: what becomes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from waypost.admin.exim_text import Configuration, Driver, Line, configuration, lines_of
from waypost.admin.translation import Sheet, names

_ANSWERS: Final = "update-exim4.conf.conf"
_TEMPLATE: Final = "exim4.conf.template"
_MACROS: Final = "exim4.conf.localmacros"
_ANSWER: Final = re.compile(r"\s*(?:export\s+)?(\w+)=(?:'([^']*)'|\"([^\"]*)\"|(\S*))")
_SECTIONS: Final = ("main", "acl", "router", "transport", "retry", "rewrite", "auth")
_STOCK: Final = names(
    """
    domain_literal hubbed_hosts dnslookup_relay_to_domains dnslookup nonlocal smarthost real_local system_aliases
    hub_user hub_user_smarthost userforward procmail maildrop lowuid_aliases local_user mail4root address_file
    address_pipe address_reply mail_spool maildir_home maildrop_pipe procmail_pipe remote_smtp remote_smtp_smarthost
    address_directory
    """
)
#: Macros of the template that are a setting of Exim's, and which.
_MAIN: Final = {
    "MAIN_HARDCODE_PRIMARY_HOSTNAME": "primary_hostname",
    "MAIN_QUALIFY_DOMAIN": "qualify_domain",
    "MAIN_LOCAL_INTERFACES": "local_interfaces",
    "MESSAGE_SIZE_LIMIT": "message_size_limit",
}
_LISTS: Final = {
    "MAIN_LOCAL_DOMAINS": "domainlist local_domains",
    "MAIN_RELAY_TO_DOMAINS": "domainlist relay_to_domains",
    "MAIN_RELAY_NETS": "hostlist relay_from_hosts",
}
_OF_TRANSPORT: Final = {
    "HELO_DATA": "helo_data",
    "INTERFACE": "interface",
    "HOSTS_REQUIRE_TLS": "hosts_require_tls",
    "HOSTS_AVOID_TLS": "hosts_avoid_tls",
    "TLS_VERIFY_HOSTS": "tls_verify_hosts",
    "TLS_CERTIFICATE": "tls_certificate",
    "PRIVATEKEY": "tls_privatekey",
    "PROTOCOL": "protocol",
}
_ELSEWHERE: Final = names(
    """
    MAIN_TLS_ENABLE MAIN_TLS_CERTIFICATE MAIN_TLS_PRIVATEKEY MAIN_TLS_CERTKEY MAIN_LOG_SELECTOR CONFDIR SPOOLDIR
    MAIN_TLS_ADVERTISE_HOSTS MAIN_FORCE_SENDER MAIN_TRUSTED_USERS MAIN_TRUSTED_GROUPS LOCAL_DELIVERY CFILEMODE
    MAILDIR_HOME_MAILDIR_LOCATION MAIN_IGNORE_BOUNCE_ERRORS_AFTER MAIN_TIMEOUT_FROZEN_AFTER MAIN_HOST_LOOKUP
    MAIN_KEEP_ENVIRONMENT AUTH_CLIENT_ALLOW_NOTLS_PASSWORDS
    """
)
_HINTS: Final = (
    ("CHECK_RCPT_IP_DNSBLS", "a [[dns_list]] (docs/howto/greylisting-and-dns-lists.md)"),
    ("CHECK_RCPT_DOMAIN_DNSBLS", "a [[dns_list]] (docs/howto/greylisting-and-dns-lists.md)"),
    ("CHECK_RCPT_SPF", "docs/howto/verification.md"),
    ("CHECK_", "[access] and [senders] (docs/howto/access.md), or a hook (docs/howto/hooks.md)"),
    ("DKIM_", "mail of others is not signed here; a hook may do it"),
)
#: Files that Debian's configuration looks into, where they are there.
_FILES: Final = {
    "passwd": "accounts: docs/howto/submission.md; passwords do not carry over",
    "local_host_blacklist": "[access] (docs/howto/access.md)",
    "host_local_deny_exceptions": "[access] (docs/howto/access.md)",
    "local_host_whitelist": "[access] (docs/howto/access.md)",
    "local_sender_blacklist": "[access] (docs/howto/access.md)",
    "sender_local_deny_exceptions": "[access] (docs/howto/access.md)",
    "local_sender_whitelist": "[access] (docs/howto/access.md)",
    "local_sender_callout": "[senders] (docs/howto/access.md)",
    "local_rcpt_callout": "a [[map]] with call_ahead in `users` of the [[domain]]",
    "local_domain_dnsbl_whitelist": "a [[dns_list]] (docs/howto/greylisting-and-dns-lists.md)",
    "lowuid-aliases": "a [[map]] in `aliases` of the [[domain]]",
}


def is_debian(source: Path) -> bool:
    """Whether a directory is Debian's; an exim4.conf in it takes the place of all that."""
    return (source / _ANSWERS).is_file() and not (source / "exim4.conf").is_file()


def lines_of_debian(directory: Path, sheet: Sheet) -> list[Line]:
    """Its configuration. Raises: OSError, where update-exim4.conf.conf cannot be read."""
    answers = _answers((directory / _ANSWERS).read_text("utf-8", "replace"))
    macros = {line.text.partition("=")[0].strip(): line for line in _lines(directory / _MACROS) if "=" in line.text}
    kind = answers.get("dc_eximconfig_configtype", Line("", "none")).text.strip().lower()
    template = _template(directory, is_split=_said(answers, "dc_use_split_config") == "true")
    if kind not in {"internet", "smarthost", "satellite", "local"}:
        return [*_lines(directory / _MACROS), *template]
    debian = Debian(directory, kind, answers, macros)
    read = _read(debian, template)
    _tell(debian, read, sheet)
    smart = read.transports.get("remote_smtp_smarthost", Driver("", ""))
    return list(replace(debian, verify=smart.get("tls_verify_hosts", "" if smart.name else "*")).lines())


def _answers(text: str) -> dict[str, Line]:
    """What a shell would have read: names, and values without their quotes."""
    found: dict[str, Line] = {}
    for number, line in enumerate(text.splitlines(), 1):
        answer = _ANSWER.match(line)
        if answer is not None:
            value = next((one for one in answer.groups()[1:] if one is not None), "")
            found[answer[1]] = Line(f"{_ANSWERS}:{number}", value.strip())
    return found


def _said(answers: Mapping[str, Line], name: str) -> str:
    return answers[name].text.strip().lower() if name in answers else ""


def _lines(path: Path) -> list[Line]:
    try:
        return list(lines_of(path.name, path.read_text("utf-8", "replace")))
    except OSError:
        return []


def _template(directory: Path, *, is_split: bool) -> list[Line]:
    if not is_split:
        return _lines(directory / _TEMPLATE)
    files = (path for part in _SECTIONS for path in sorted((directory / "conf.d" / part).glob("*")))
    return [line for path in files if re.fullmatch(r"[\w-]+", path.name) for line in _lines(path)]


def _read(debian: Debian, template: list[Line]) -> Configuration:
    macros = {name: line.text.partition("=")[2].strip() for name, line in debian.macros.items()}
    return configuration(template, {**macros, f"DCconfig_{debian.kind}": "1"})


def _tell(debian: Debian, read: Configuration, sheet: Sheet) -> None:
    """What this directory has beyond what Debian brings."""
    for driver in (*read.routers, *read.transports.values()):
        if driver.name not in _STOCK:
            sheet.leave(f"{driver.place}: {driver.name}", "it is yours, not Debian's; write a [[route]] by hand")
    for name, line in debian.macros.items():
        if not debian.is_read(name):
            remedy = next((hint for begin, hint in _HINTS if name.startswith(begin)), "nothing here is called so")
            sheet.leave(f"{line.place}: {' '.join(line.text.split())}", remedy)
    for name, remedy in _FILES.items():
        if _lines(debian.directory / name):
            sheet.leave(str(debian.directory / name), remedy)


@dataclass(frozen=True, slots=True)
class Debian:
    """The answers of one machine."""

    directory: Path
    kind: str  # internet, smarthost, satellite or local
    answers: Mapping[str, Line]
    macros: Mapping[str, Line]
    verify: str = "*"  # tls_verify_hosts of the smart host's transport: not every release of Debian has it

    def is_read(self, name: str) -> bool:
        """Whether a macro means something here."""
        part = re.sub(r"^REMOTE_SMTP_(SMARTHOST_)?", "", name)
        return name in _MAIN or name in _LISTS or name in _ELSEWHERE or (part != name and part in _OF_TRANSPORT)

    def lines(self) -> Iterator[Line]:
        """All of the configuration."""
        yield from self._main()
        yield from (Line(_ANSWERS, "begin routers"),)
        yield from self._routers()
        yield from (Line(_ANSWERS, "begin transports"),)
        yield from self._transports()
        yield from (Line(_ANSWERS, "begin retry"), Line(_TEMPLATE, "* * F,2h,15m; G,16h,1h,1.5; F,4d,6h"))
        yield from self._rewriting()

    # ---- what was answered
    def _answer(self, name: str) -> Line:
        found = self.answers.get(name, Line(_ANSWERS, ""))
        text = " ".join(found.text.lower().split())
        return Line(found.place, f"<; {text}" if ";" in text and not text.startswith("<") else text)

    def _macro(self, name: str) -> str:
        return self.macros[name].text.partition("=")[2].lstrip("= ") if name in self.macros else ""

    def _beside(self, name: str) -> Path:
        """A file of /etc, or a copy of it: in the directory, else beside it."""
        here = self.directory / name
        return here if here.is_file() else self.directory.parent / name

    def _mail_name(self) -> Line:
        read = _lines(self._beside("mailname"))
        found = re.match(r"[\w.-]+", read[0].text, re.ASCII) if read else None
        return Line("mailname:1", found[0].lower() if found is not None else "")

    def _is_hidden(self) -> bool:
        return (
            self.kind in {"smarthost", "satellite"}
            and self._answer("dc_hide_mailname").text == "true"
            and bool(self._answer("dc_readhost").text)
        )

    # ---- sections
    def _main(self) -> Iterator[Line]:
        name = self._mail_name()
        if name.text:
            yield Line(name.place, f"qualify_domain = {name.text}")
        other, relay, nets = (self._answer(f"dc_{one}") for one in ("other_hostnames", "relay_domains", "relay_nets"))
        local = other.text.removeprefix("<;").replace(";", ":").strip(": ")
        yield Line(other.place, f"domainlist local_domains = @ : localhost : {local}")
        yield Line(relay.place, f"domainlist relay_to_domains = {relay.text}")
        ours = "; 127.0.0.1 ; ::1" if nets.text.startswith("<;") else ": 127.0.0.1 : ::::1"
        yield Line(nets.place, f"hostlist relay_from_hosts = {nets.text} {ours}")
        interfaces = self._answer("dc_local_interfaces")
        if interfaces.text:
            yield Line(interfaces.place, f"local_interfaces = {interfaces.text}")
        for macro, setting in (*_MAIN.items(), *_LISTS.items()):
            if macro in self.macros:
                yield Line(self.macros[macro].place, f"{setting} = {self._macro(macro)}")
        if "MAIN_TLS_ENABLE" in self.macros:
            both = self._macro("MAIN_TLS_CERTKEY")
            certificate = both or self._macro("MAIN_TLS_CERTIFICATE") or str(self.directory / "exim.crt")
            place = self.macros["MAIN_TLS_ENABLE"].place
            yield Line(place, f"tls_certificate = {certificate}")
            key = both or self._macro("MAIN_TLS_PRIVATEKEY") or str(self.directory / "exim.key")
            yield Line(place, f"tls_privatekey = {key}")

    def _routers(self) -> Iterator[Line]:
        hubbed = self.directory / "hubbed_hosts"
        if hubbed.is_file():
            data = f"${{lookup{{$domain}}partial-lsearch{{{hubbed}}}}}"
            yield from _driver(str(hubbed), "hubbed_hosts", "manualroute", route_data=data, transport="remote_smtp")
        host = self._answer("dc_smarthost")
        hosts = host.text.removeprefix("<;").replace(";", ":").replace(" ", "")
        smart = {"transport": "remote_smtp_smarthost", "route_list": f'* "{hosts}" byname'}
        outside = "! +local_domains"
        match self.kind:
            case "internet":
                yield from _driver(
                    _ANSWERS, "dnslookup", "dnslookup", domains=outside, transport="remote_smtp", more="no"
                )
            case "local":
                data = ":fail: Mailing to remote domains not supported"
                yield from _driver(_ANSWERS, "nonlocal", "redirect", domains=outside, data=data)
            case _:
                yield from _driver(host.place, "smarthost", "manualroute", domains=outside, **smart, more="no")
        yield from self._aliases()
        readhost = self._answer("dc_readhost")
        if self.kind == "satellite" and readhost.text:
            data = f"${{local_part}}@{readhost.text}"
            yield from _driver(readhost.place, "hub_user", "redirect", domains="+local_domains", data=data)
            yield from _driver(host.place, "hub_user_smarthost", "manualroute", domains=readhost.text, **smart)
        else:
            yield from _driver(_ANSWERS, "local_user", "accept", domains="+local_domains", transport="local")

    def _aliases(self) -> Iterator[Line]:
        aliases = self._beside("aliases")
        if aliases.is_file():
            data = f"${{lookup{{$local_part}}lsearch{{{aliases}}}}}"
            yield from _driver(str(aliases), "system_aliases", "redirect", domains="+local_domains", data=data)

    def _transports(self) -> Iterator[Line]:
        hidden = {"headers_rewrite": self._hiding()} if self._is_hidden() else {}
        yield from _driver(_ANSWERS, "remote_smtp", "smtp", **self._options("REMOTE_SMTP_"), **hidden)
        passwords = self.directory / "passwd.client"
        login = f"<; ${{lookup{{$host}}nwildlsearch{{{passwords}}}{{$host_address}}}}" if passwords.is_file() else ""
        defaults = {"tls_verify_hosts": self.verify, "helo_data": self._macro("REMOTE_SMTP_HELO_DATA")}
        more = {**defaults, **self._options("REMOTE_SMTP_SMARTHOST_"), "hosts_try_auth": login, **hidden}
        place = str(passwords) if login else _ANSWERS
        yield from _driver(place, "remote_smtp_smarthost", "smtp", **more)
        kind = self._macro("LOCAL_DELIVERY") or self._answer("dc_localdelivery").text or "mail_spool"
        yield from self._local(kind)

    def _local(self, kind: str) -> Iterator[Line]:
        place = self._answer("dc_localdelivery").place
        match kind:
            case "mail_spool":
                yield from _driver(place, "local", "appendfile", file="/var/mail/$local_part_data")
            case "maildir_home":
                directory = self._macro("MAILDIR_HOME_MAILDIR_LOCATION") or "$home/Maildir"
                yield from _driver(place, "local", "appendfile", maildir_format="true", directory=directory)
            case _:
                yield from _driver(place, "local", "pipe", command=kind)

    def _options(self, prefix: str) -> dict[str, str]:
        found = {setting: self._macro(f"{prefix}{part}") for part, setting in _OF_TRANSPORT.items()}
        return {setting: value for setting, value in found.items() if value}

    def _hiding(self) -> str:
        readhost, name = self._answer("dc_readhost").text, self._mail_name().text
        rules = [f"*@+local_domains $1@{readhost} frs", *([f"*@{name} $1@{readhost} frs"] if name else [])]
        return " : ".join(rules)

    def _rewriting(self) -> Iterator[Line]:
        addresses, name = self._beside("email-addresses"), self._mail_name().text
        if "NO_EAA_REWRITE_REWRITE" in self.macros or not addresses.is_file():
            return
        yield Line(_ANSWERS, "begin rewrite")
        for domain in ("+local_domains", *([name] if name else [])):
            lookup = f"${{lookup{{${{local_part}}}}lsearch{{{addresses}}}{{$value}}fail}}"
            yield Line(str(addresses), f'*@{domain} "{lookup}" Ffrs')


def _driver(place: str, name: str, driver: str, **options: str) -> Iterator[Line]:
    yield Line(place, f"{name}:")
    yield Line(place, f"driver = {driver}")
    for option, value in options.items():
        if value:
            yield Line(place, "no_more" if option == "more" else f"{option} = {value}")

"""Where an Exim transport takes mail, as `to` of a route and what stands beside it (specification, chapters 26 to 30).

Not here: which router leads to it (exim_routes.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from waypost.admin.exim_lists import Source
from waypost.admin.exim_rules import map_text, rewrites
from waypost.admin.exim_text import Driver, Line, NotPlainError, Option, expanded, items, table
from waypost.admin.translation import names
from waypost.route.domain import host_name
from waypost.route.target import is_address, parse_target

NO_MAILBOXES: Final = "reject:550 5.2.1 no mailboxes are here yet"
_STORE: Final = "name your store in `to` of the [[route]]; mail for it is refused till then"
_OF_NO_MEANING: Final = names(
    """
    driver debug_print multi_domain delivery_date_add envelope_to_add return_path_add group user mode directory_mode
    mode_fail_narrower create_directory maildir_format message_prefix message_suffix tls_tempfail_tryclear
    tls_resumption_hosts tls_require_ciphers tls_sni dns_qualify_single dns_search_parents hosts_try_dane
    tls_try_verify_hosts hosts_try_prdr hosts_try_chunking hosts_avoid_pipelining tls_dh_min_bits
    message_linelength_limit serialize_hosts gethostbyname hosts_try_fastopen create_file check_string
    escape_string hosts_noproxy_tls delay_after_cutoff hosts_randomize hosts_max_try tls_verify_certificates
    """
)
_SMTP: Final = names(
    """
    protocol port hosts hosts_override hosts_require_tls hosts_avoid_tls tls_verify_hosts hosts_require_auth
    hosts_try_auth helo_data interface max_rcpt connection_max_messages connect_timeout tls_certificate tls_privatekey
    fallback_hosts headers_rewrite return_path allow_localhost hosts_require_dane
    """
)
_HINTS: Final = {
    "dkim_domain": "mail of others is not signed here; a hook may do it",
    "headers_add": "a hook may do it (docs/howto/hooks.md)",
    "headers_remove": "a hook may do it (docs/howto/hooks.md)",
    "command": 'a program is to = "pipe:/path" (docs/howto/pipe.md)',
    "connect_timeout": "timeouts.connect, for all routes",
    "file": 'an mbox is no store here; LMTP, or to = "maildir:/path/%d/%u"',
    "return_path": "rewrite_sender or generic of the route (docs/howto/rewriting.md)",
}


@dataclass(frozen=True, slots=True)
class Way:
    """`to`, one place or several, and other settings of a route by name."""

    to: tuple[str, ...]
    settings: tuple[tuple[str, str | tuple[str, ...] | tuple[int, ...]], ...] = ()

    def target(self) -> str | list[str]:
        """As the file spells it."""
        return self.to[0] if len(self.to) == 1 else list(self.to)


def checked(way: Way) -> Way:
    """It again. Raises: NotPlainError, where no route could have it."""
    try:
        parse_target(way.to)
    except ValueError as error:
        raise NotPlainError(str(error)) from error
    return way


class Transports:
    """The transports of one configuration; what of them is not known is told once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._told: set[str] = set()

    def named(self, option: Option) -> Driver:
        """The transport that a router names. Raises: NotPlainError."""
        name = self._source.plain(option.value)
        if name not in self._source.found.transports:
            raise NotPlainError(f"there is no transport {name!r}")
        return self._source.found.transports[name]

    # ---- to hosts
    def by_mx(self, transport: Driver) -> Way:
        """To the domain's mail exchangers. Raises: NotPlainError."""
        port = self._port(transport)
        return checked(Way((f"mx:{'' if port in ('', '25') else f':{port}'}",), self._settings(transport, [])))

    def to_hosts(self, transport: Driver, hosts: str, *, randomize: bool = False) -> Way:
        """To these, in Exim's words. Raises: NotPlainError."""
        if transport.get("driver") not in {"smtp", "lmtp"}:
            return self.local(transport)
        listed = [item for item in items(self._source.plain(hosts)) if item != "+"]
        servers = tuple(self._server(transport, name) for name in listed)
        settings = self._settings(transport, [_parts(name)[0] for name in listed])
        if (randomize or transport.has("hosts_randomize")) and len(servers) > 1:
            settings = (*settings, ("weights", (1,) * len(servers)))
        return checked(Way(servers, settings))

    def servers(self, hosts: str) -> tuple[str, ...]:
        """Hosts as a fallback has them. Raises: NotPlainError."""
        named = [_parts(item) for item in items(self._source.plain(hosts))]
        found = tuple(f"smtp://{f'[{host}]' if ':' in host else host}:{port or '25'}" for host, port in named)
        return checked(Way(found)).to

    def _server(self, transport: Driver, name: str) -> str:
        host, port = _parts(name)
        if host.lower().endswith("/mx"):
            return f"mx:{host[:-3]}"
        protocol = transport.get("protocol", "smtp")
        scheme = protocol if protocol in {"smtps", "lmtp"} else "smtp"
        shown = f"[{host}]" if ":" in host else host
        port = port or self._port(transport) or {"smtps": "465", "lmtp": "24"}.get(scheme, "25")
        return f"{scheme}://{shown}:{port}"

    def _port(self, transport: Driver) -> str:
        port = self._source.plain(transport.get("port"))
        return {"smtp": "25", "smtps": "465", "submissions": "465", "submission": "587", "lmtp": "24"}.get(port, port)

    # ---- what stands beside
    def _settings(
        self, transport: Driver, hosts: list[str]
    ) -> tuple[tuple[str, str | tuple[str, ...] | tuple[int, ...]], ...]:
        self._tell(transport, _SMTP)
        tls = self._tls(transport)
        found: dict[str, str | tuple[str, ...] | tuple[int, ...]] = {"tls": tls, **self._login(transport, hosts)}
        if found.get("username") and not tls:  # Exim says no password in clear, nor to whom it has to verify and cannot
            found["tls"] = "verify" if transport.get("tls_verify_hosts") == "*" else "required"
        found["helo"] = self._name(transport)
        found["source"] = self._interface(transport)
        found["generic"] = self._generic(transport)
        found["fallback"] = self.servers(transport.get("fallback_hosts")) if transport.get("fallback_hosts") else ()
        if transport.get("tls_certificate"):
            found["client_certificate"] = self._plain_or_told(transport, "tls_certificate")
            found["client_key"] = self._plain_or_told(transport, "tls_privatekey")
        for name, remedy in (("return_path", _HINTS["return_path"]), ("connect_timeout", _HINTS["connect_timeout"])):
            if transport.get(name) and not (name == "return_path" and transport.get("headers_rewrite")):
                self._once(transport, name, remedy)
        for name in ("max_rcpt", "connection_max_messages"):
            if transport.get(name):
                ours = {"max_rcpt": "recipients"}.get(name, "messages")
                self._once(transport, name, f"{ours} of the [[route]]")
        return tuple((name, value) for name, value in found.items() if value)

    def _generic(self, transport: Driver) -> tuple[str, ...]:
        """What headers_rewrite makes of addresses, as a map; Debian's return_path does the same in the envelope."""
        option = transport.options.get("headers_rewrite", Option(transport.place, "headers_rewrite", ""))
        rules = items(option.value)
        try:
            entries = [entry for rule in rules for entry in rewrites(self._source, Line(option.place, rule)).entries]
        except NotPlainError as error:
            self._once(transport, "headers_rewrite", f"{error}; `generic` of the [[route]]")
            return ()
        text = map_text(entries)
        return (self._source.sheet.map("generic", text),) if text else ()

    def _tls(self, transport: Driver) -> str:
        if transport.get("hosts_avoid_tls") == "*":
            return "none"
        if transport.get("hosts_require_dane") == "*":
            return "dane"
        for name in ("hosts_avoid_tls", "hosts_require_tls", "hosts_require_dane"):
            if transport.get(name) not in {"", "*"}:
                self._once(transport, name, "`tls` of a [[route]] or [[destination]] for these hosts")
        if transport.get("hosts_require_tls") == "*":
            return "verify" if transport.get("tls_verify_hosts") == "*" else "required"
        return ""

    def _name(self, transport: Driver) -> str:
        name = self._plain_or_told(transport, "helo_data")
        try:
            return host_name(name) if "." in host_name(name or "none.none") and name else ""
        except ValueError:
            self._once(transport, "helo_data", "`helo` of the [[route]], a full name")
            return ""

    def _interface(self, transport: Driver) -> tuple[str, ...]:
        found: list[str] = []
        for word in items(self._plain_or_told(transport, "interface")):
            try:
                found.append(str(ip_address(word)))
            except ValueError:
                self._once(transport, "interface", "`source` of the [[route]], addresses of this machine")
        return tuple(found)

    def _plain_or_told(self, transport: Driver, name: str) -> str:
        try:
            return self._source.plain(transport.get(name))
        except NotPlainError as error:
            self._once(transport, name, f"{error}; write it in the [[route]] by hand")
            return ""

    # ---- logging in
    def _login(self, transport: Driver, hosts: list[str]) -> dict[str, str]:
        for name in ("hosts_require_auth", "hosts_try_auth"):
            value = transport.get(name)
            file = re.search(r"lsearch\*?\{([^{}$]+)\}", value)
            if file is not None:
                return self._from_file(file[1], hosts, transport.options[name])
            if value and (value == "*" or set(items(value)) & set(hosts)):
                return self._from_authenticator(transport.options[name])
            if value:
                self._once(transport, name, "username and password_file of the [[route]]")
        return {}

    def _from_file(self, file: str, hosts: list[str], option: Option) -> dict[str, str]:
        rows = list(table(self._source.text_of(file, option.place)))
        for host in hosts:
            for _, key, value in rows:
                name, _, password = value.partition(":")
                if _fits(key, host) and name and password:
                    return self._secret(name.replace("^^", "^"), password.replace("^^", "^"), host)
        if rows and hosts:
            remedy = "Exim goes by the name that the address of the host has in DNS; write username and password_file"
            self._source.sheet.leave(f"{file}: no line for {', '.join(hosts)}", f"{remedy} in the [[route]]")
        return {}

    def _from_authenticator(self, option: Option) -> dict[str, str]:
        for driver in self._source.found.authenticators:
            try:
                name, password = _said(driver, self._source)
            except NotPlainError:
                continue
            return self._secret(name, password, "login")
        self._source.sheet.leave(
            f"{option.place}: {option.name}", "no authenticator says a plain name and password; write them in the route"
        )
        return {}

    def _secret(self, name: str, password: str, host: str) -> dict[str, str]:
        file = self._source.sheet.file(f"{re.sub(r'[^a-z0-9.-]+', '-', host.lower())}.password", f"{password}\n")
        return {"username": name, "password_file": file}

    # ---- to a store
    def local(self, transport: Driver) -> Way:
        """Mail that stays. A store that cannot be said here: refused, rather than lost. Raises: NotPlainError."""
        match transport.get("driver"):
            case "appendfile" if transport.has("maildir_format"):
                self._tell(transport, frozenset({"directory"}))
                return self._maildir(transport)
            case "lmtp" if transport.get("socket"):
                self._tell(transport, frozenset({"socket", "batch_max", "timeout"}))
                return checked(Way((f"lmtp://{self._source.plain(transport.get('socket'))}",)))
            case "smtp":
                hosts = transport.get("hosts")
                if not hosts:
                    raise NotPlainError("its transport names no hosts")
                return self.to_hosts(transport, hosts)
            case driver:
                name = "command" if transport.get("command") else "file" if transport.get("file") else "driver"
                option = transport.options.get(name, Option(transport.place, "driver", driver))
                if option.place not in self._told:
                    self._told.add(option.place)
                    self._source.leave(option, f"{_HINTS.get(name, 'there is no like here')}; {_STORE}", _of(transport))
                return Way((NO_MAILBOXES,))

    def _maildir(self, transport: Driver) -> Way:
        directory = re.sub(r"\$\{?(?:lc:)?\$?local_part(?:_data)?\}?", "%u", transport.get("directory"))
        directory = re.sub(r"\$\{?(?:lc:)?\$?domain(?:_data)?\}?", "%d", directory)
        try:
            return checked(Way((f"maildir:{self._source.plain(directory)}",)))
        except NotPlainError as error:
            self._once(transport, "directory", f"{error}; {_STORE}")
            return Way((NO_MAILBOXES,))

    # ---- telling
    def _tell(self, transport: Driver, known: frozenset[str]) -> None:
        for name in transport.options.keys() - known - _OF_NO_MEANING:
            self._once(transport, name, _HINTS.get(name, "nothing here is called so"))

    def _once(self, transport: Driver, name: str, remedy: str) -> None:
        option = transport.options.get(name, Option(transport.place, name, ""))
        if option.place + name not in self._told:
            self._told.add(option.place + name)
            self._source.leave(option, remedy, _of(transport))


def _of(driver: Driver) -> str:
    return f"{driver.name}: "


def _parts(name: str) -> tuple[str, str]:
    """`host:port`, `[::1]:port` or either alone; the port may be ""."""
    found = re.fullmatch(r"\[([^\[\]]+)\](?::+(\d+))?", name)
    if found is not None:
        return found[1], found[2] or ""
    if is_address(name):
        return name, ""
    host, _, port = name.partition(":")
    return host, port


def _fits(key: str, host: str) -> bool:
    """Whether a key of nwildlsearch is for this host."""
    if key.startswith("^"):
        try:
            return re.search(key, host) is not None
        except re.error:
            return False
    return host.lower().endswith(key[1:]) if key.startswith("*") else host.lower() == key


def _said(driver: Driver, source: Source) -> tuple[str, str]:
    """The name and the password that a client of ours says by an authenticator. Raises: NotPlainError."""
    if driver.get("driver") == "cram_md5":
        name, password = driver.get("client_name"), driver.get("client_secret")
    else:
        words = [word.strip() for word in driver.get("client_send").replace("::", "\0").split(":")]
        texts = [word.replace("\0", ":") for word in words]
        said = texts[0].replace("^^", "\0").split("^") if len(texts) == 1 else texts
        name, password = (said[-2].replace("\0", "^"), said[-1].replace("\0", "^")) if len(said) > 2 else ("", "")
    if not name or not password:
        raise NotPlainError("it says no name and password")
    return expanded(name, source.values), expanded(password, source.values)

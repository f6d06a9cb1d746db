"""From a Postfix configuration to one of ours: what carries over as TOML, and a report of what does not, by its name.

Reads main.cf, master.cf and the text files behind its maps (hash:, texthash:, lmdb: …; never their compiled form).
Nothing of Postfix is run. What a setting means is Postfix's postconf(5). Not here: writing files (moving.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from waypost.admin.translation import Sheet, Translation, file_name, names, section
from waypost.config.reference import toml

#: What Postfix has where main.cf says nothing, as far as it is of meaning here.
DEFAULTS: Final = {
    "mydomain": "localdomain",
    "mydestination": "$myhostname, localhost.$mydomain, localhost",
    "myorigin": "$myhostname",
    "mynetworks": "127.0.0.0/8 [::1]/128",
    "inet_interfaces": "all",
    "relay_domains": "",
    "maximal_queue_lifetime": "5d",
    "delay_warning_time": "0h",
    "message_size_limit": "10240000",
    "smtp_tls_security_level": "",
    "virtual_transport": "virtual",
    "local_transport": "local:$myhostname",
    "mailbox_transport": "",
    "alias_maps": "",
    "recipient_delimiter": "",
}
#: Settings that are read here; of all others that main.cf has, the report tells.
_READ: Final = names(
    """
    myhostname mydomain myorigin mydestination mynetworks inet_interfaces inet_protocols relayhost relay_domains
    transport_maps virtual_alias_maps virtual_alias_domains virtual_mailbox_domains virtual_mailbox_maps
    relay_recipient_maps virtual_transport local_transport mailbox_transport alias_maps alias_database
    local_recipient_maps smtp_sasl_auth_enable smtp_sasl_password_maps smtp_tls_security_level smtp_use_tls
    smtpd_tls_cert_file smtpd_tls_key_file smtpd_tls_security_level smtpd_use_tls message_size_limit
    maximal_queue_lifetime bounce_queue_lifetime delay_warning_time recipient_delimiter always_bcc
    canonical_maps sender_canonical_maps recipient_canonical_maps masquerade_domains smtp_generic_maps
    smtp_helo_name smtp_bind_address smtpd_banner
    """
)
#: Settings that say where Postfix itself is, how it is run, or what is so here anyway.
_OF_NO_MEANING: Final = names(
    """
    compatibility_level queue_directory command_directory daemon_directory data_directory mail_owner
    setgid_group sendmail_path newaliases_path mailq_path html_directory manpage_directory sample_directory
    readme_directory biff append_dot_mydomain debug_peer_level debugger_command
    unknown_local_recipient_reject_code meta_directory shlib_directory smtp_tls_session_cache_database
    smtpd_tls_session_cache_database mailbox_size_limit smtp_tls_CApath smtp_tls_CAfile disable_vrfy_command
    smtpd_helo_required smtp_sasl_security_options smtp_sasl_tls_security_options smtp_sasl_mechanism_filter
    """
)
_HINTS: Final = {
    "smtpd_sasl_auth_enable": "accounts: docs/howto/submission.md; passwords do not carry over",
    "smtpd_recipient_restrictions": "relay.networks, accounts and [[domain]] decide here; see docs/howto/access.md",
    "smtpd_relay_restrictions": "relay.networks and accounts decide here",
    "smtpd_client_restrictions": "see [access], docs/howto/access.md",
    "smtpd_sender_restrictions": "see [senders], docs/howto/access.md",
    "content_filter": "a hook, or a next hop that filters",
    "smtpd_milters": "no milters here; a hook may do it (docs/howto/hooks.md)",
    "non_smtpd_milters": "no milters here; a hook may do it (docs/howto/hooks.md)",
    "header_checks": "a hook may do it (docs/howto/hooks.md)",
    "body_checks": "a hook may do it (docs/howto/hooks.md)",
    "mailbox_command": "no program takes local mail; a route to LMTP, or pipe:",
    "home_mailbox": 'write a [[route]] to = "maildir:/path/%d/%u"',
    "sender_dependent_relayhost_maps": "a route with senders for each (docs/howto/smart-hosts.md)",
}
_VARIABLE: Final = re.compile(r"\$\{?\(?([A-Za-z0-9_]+)\)?\}?")
_TLS: Final = {
    "none": "none",
    "may": "opportunistic",
    "encrypt": "required",
    "dane": "auto",
    "dane-only": "dane",
    "verify": "verify",
    "secure": "verify",
}


def read_main(text: str) -> dict[str, str]:
    """main.cf: `name = value`, a line that begins with a blank goes on with the one before (postconf(5))."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t" and name:
            found[name] = f"{found[name]} {line.strip()}".strip()
            continue
        name, equals, value = line.partition("=")
        name = name.strip() if equals else ""
        if name:
            found[name] = value.strip()
    return found


def read_master(text: str) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """master.cf's services: name, command, and its -o settings."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            if line[0] in " \t" and lines:
                lines[-1] += " " + line.strip()
            else:
                lines.append(line.strip())
    for line in lines:
        words = line.split()
        if len(words) >= 8 and words[1] == "inet":
            given = re.findall(r"-o\s+([A-Za-z0-9_]+)\s*=\s*(\S+)", line)
            yield words[0], words[7], dict(given)


def read_map(text: str) -> dict[str, str]:
    """A table's text: `key value`, comments and continued lines as in main.cf; `key: value` of aliases too."""
    found: dict[str, str] = {}
    key = ""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t" and key:
            found[key] = f"{found[key]} {line.strip()}".strip()
            continue
        key, _, value = line.strip().partition(" ") if "\t" not in line else line.strip().partition("\t")
        key = key.rstrip(":").strip('"')
        found[key] = value.strip()
    return found


class Translator:
    """One Postfix configuration directory, put into our words."""

    def __init__(self, directory: Path) -> None:
        """Raises: OSError, where main.cf cannot be read."""
        self._directory = directory
        self._written = read_main((directory / "main.cf").read_text("utf-8", "replace"))
        self._sheet = Sheet()
        self._named: dict[str, str] = {}  # map file → its name here

    def translate(self) -> Translation:
        """The whole."""
        self._service()
        self._listeners()
        self._relay()
        self._rewriting()
        self._domains()
        self._transports()
        self._relayhost()
        self._limits()
        self._copies()
        for name in sorted(self._written.keys() - _READ - _OF_NO_MEANING):
            if not name.endswith("_maps") or self._value(name):
                self._sheet.leave(name, _HINTS.get(name, "nothing here is called so"))
        return self._sheet.translation()

    # ---- values
    def _value(self, name: str) -> str:
        """A setting with its variables put in; "" where there is none."""
        text = self._written.get(name, DEFAULTS.get(name, ""))
        for _ in range(10):
            put_in = _VARIABLE.sub(lambda found: self._written.get(found[1], DEFAULTS.get(found[1], "")), text)
            if put_in == text:
                break
            text = put_in
        return text

    def _words(self, name: str) -> list[str]:
        return [word for word in re.split(r"[\s,]+", self._value(name)) if word]

    # ---- sections
    def _service(self) -> None:
        hostname = self._value("myhostname") or "localhost.localdomain"
        origin = self._value("myorigin") or hostname
        if origin.startswith("/"):
            origin = self._text_of(origin).strip() or hostname
        settings = {"hostname": hostname, "spool": "/var/spool/waypost", "postmaster": f"postmaster@{origin}"}
        self._sheet.add("[service]", **settings)

    def _listeners(self) -> None:
        master = self._text_of("master.cf")
        is_local = self._words("inet_interfaces") in (["loopback-only"], ["localhost"])
        host = "127.0.0.1" if is_local else "0.0.0.0"  # noqa: S104 - a mail server's listener, as Postfix has it
        has_tls = bool(self._value("smtpd_tls_cert_file")) and self._value("smtpd_tls_key_file") != ""
        for name, command, given in read_master(master):
            if command != "smtpd":
                continue
            port = {"smtp": "25", "submission": "587", "smtps": "465", "submissions": "465"}.get(name, name)
            address, _, number = port.rpartition(":")
            if not number.isdigit():
                self._sheet.leave(f"master.cf: {name}", "name its port in a [[listener]]")
                continue
            implicit = given.get("smtpd_tls_wrappermode") == "yes" or number == "465"
            role = "submission" if number in {"587", "465"} else "mx"
            tls = "implicit" if implicit else "required" if given.get("smtpd_tls_security_level") == "encrypt" else ""
            settings = {"address": f"{address or host}:{number}", "role": role, "tls": tls if has_tls else ""}
            self._sheet.add("[[listener]]", **settings)
        if not any(one.startswith("[[listener]]") for one in self._sheet.sections):
            self._sheet.add("[[listener]]", address=f"{host}:25")
        if has_tls:
            files = {"certificate": self._value("smtpd_tls_cert_file"), "key": self._value("smtpd_tls_key_file")}
            self._sheet.add("[[certificate]]", **files)

    def _relay(self) -> None:
        networks = []
        for word in self._words("mynetworks"):
            network = word.replace("[", "").replace("]", "")
            if re.fullmatch(r"[0-9a-fA-F.:]+(/\d+)?", network):
                networks.append(network)
            else:
                self._sheet.leave(f"mynetworks: {word}", "list the networks in relay.networks")
        self._sheet.add("[relay]", networks=networks)

    def _rewriting(self) -> None:
        kinds = {"canonical_maps": "canonical", "sender_canonical_maps": "sender_canonical"}
        kinds["recipient_canonical_maps"] = "recipient_canonical"
        found = {ours: self._maps(theirs) for theirs, ours in kinds.items()}
        found["masquerade"] = self._words("masquerade_domains")
        if any(found.values()):
            self._sheet.add("[rewriting]", **found)

    def _limits(self) -> None:
        size, life = self._value("message_size_limit"), self._value("maximal_queue_lifetime")
        if size.isdigit() and int(size) >= 64 * 1024:
            self._sheet.add("[limits]", message_size=size)
        warning = self._value("delay_warning_time")
        settings = {"expire": _time(life), "delay_notice": "" if warning.startswith("0") else _time(warning)}
        self._sheet.add("[retry]", **settings)

    def _copies(self) -> None:
        if self._value("always_bcc"):
            self._sheet.add("[[copy]]", of=["*"], to=self._value("always_bcc"))

    # ---- maps
    def _text_of(self, name: str) -> str:
        try:
            return (self._directory / name).read_text("utf-8", "replace")
        except OSError as error:
            self._sheet.leave(name, f"cannot be read: {error.strerror}")
            return ""

    def _tables(self, setting: str) -> Iterator[tuple[str, str]]:
        """Kind and file of each table a setting names; others than texts are told of."""
        for word in self._words(setting):
            kind, colon, file = word.removeprefix("proxy:").partition(":")
            if colon and kind in {"hash", "texthash", "btree", "lmdb", "cdb", "dbm", "regexp"}:
                yield kind, file
            elif colon:
                self._sheet.leave(f"{setting}: {word}", "write a [[map]] (file, regexp, sqlite or http) by hand")

    def _maps(self, setting: str) -> list[str]:
        """The tables of a setting as [[map]]s, each once; their names."""
        named = []
        for kind, file in self._tables(setting):
            name = file_name(file)
            if file not in self._named:
                self._named[file] = name
                text = self._text_of(file)
                self._sheet.files[name] = text
                source = {"regexp" if kind == "regexp" else "file": name}
                self._sheet.add("[[map]]", name=name, **source)
                if "|" in text or ":include:" in text:
                    self._sheet.leave(f"{setting}: {file}", "programs and :include: in it are not followed")
            named.append(self._named[file])
        return named

    def _keys(self, setting: str) -> list[str]:
        """Domains of a setting: words, or the keys of tables."""
        words = [word for word in self._words(setting) if ":" not in word and not word.startswith("/")]
        for _, file in self._tables(setting):
            words += read_map(self._text_of(file))
        return list(dict.fromkeys(word.lower() for word in words))

    # ---- domains and routes
    def _domains(self) -> None:
        aliases = self._maps("virtual_alias_maps")
        local = [name for name in self._keys("mydestination") if "." in name]
        if local:
            self._sheet.leave(
                "local_recipient_maps", "who has a mailbox is not looked up here; name a [[map]] of users"
            )
        kinds: tuple[tuple[list[str], list[str], str, str], ...] = (
            (local, self._maps("alias_maps"), "", "local"),
            (self._keys("virtual_alias_domains"), [], "", ""),
            (self._keys("virtual_mailbox_domains"), [], "virtual_mailbox_maps", "virtual"),
            (self._keys("relay_domains"), [], "relay_recipient_maps", ""),
        )
        for domains, more, users, kind in kinds:
            if not domains:
                continue
            # Postfix takes the sub-domains of relay_domains along (parent_domain_matches_subdomains).
            patterns = domains if users == "relay_recipient_maps" else [f"={name}" for name in domains]
            listed = self._maps(users) if users else []
            if aliases or more or listed:
                self._sheet.add(
                    "[[domain]]",
                    names=patterns,
                    aliases=[*aliases, *more],
                    users=listed,
                    subaddress=self._value("recipient_delimiter"),
                )
            self._home(patterns, kind)

    def _home(self, domains: list[str], kind: str) -> None:
        """The route of domains that end here, or are relayed by their MX."""
        delivery = {"local": "mailbox_transport", "virtual": "virtual_transport"}.get(kind, "")
        if not delivery:
            self._sheet.route(domains, "mx:", accept_from="anyone")
            return
        target = self._target(self._value(delivery))
        if target.startswith("lmtp:"):
            self._sheet.route(domains, target)
        else:
            self._sheet.leave(
                delivery, f"mailboxes of {', '.join(domains)}: name your store in the [[route]]; refused till then"
            )
            self._sheet.route(domains, "reject:550 5.2.1 no mailboxes are here yet")

    def _transports(self) -> None:
        for _, file in self._tables("transport_maps"):
            for key, value in read_map(self._text_of(file)).items():
                self._transport(key, value, file)

    def _transport(self, key: str, value: str, file: str) -> None:
        domain = key.lower()
        target = self._target(value, domain.removeprefix("."))
        if not target:
            self._sheet.leave(f"{file}: {key} {value}", 'write a [[route]]; a program is to = "pipe:/path"')
        elif "@" in domain:
            self._sheet.routes.append(section("[[route]]", name=domain, addresses=[domain], to=target))
        else:
            self._drop_routes_of(domain)
            if domain.startswith("."):
                self._sheet.leave(f"{file}: {key}", f"the route is for {domain[1:]} itself too, unless it has its own")
            pattern = domain.removeprefix(".") if domain[:1] in ".*" else f"={domain}"
            self._sheet.route([pattern], target, accept_from="anyone" if self._is_ours(domain) else "")

    def _is_ours(self, domain: str) -> bool:
        ours = {*self._keys("relay_domains"), *self._keys("mydestination"), *self._keys("virtual_mailbox_domains")}
        return domain in ours

    def _drop_routes_of(self, domain: str) -> None:
        """A transport wins over what a domain would have had: take it out of the route made for all of them."""
        for quoted in (toml(f"={domain}"), toml(domain)):
            self._sheet.routes = [_without(route, quoted) for route in self._sheet.routes]
        self._sheet.routes = [route for route in self._sheet.routes if "domains = []" not in route]

    def _relayhost(self) -> None:
        host = self._value("relayhost")
        level = self._value("smtp_tls_security_level") or ("may" if self._value("smtp_use_tls") == "yes" else "")
        if any('domains = ["*"]' in route for route in self._sheet.routes):
            return
        credentials = self._credentials(host) if self._value("smtp_sasl_auth_enable") == "yes" else {}
        source = self._value("smtp_bind_address")
        more: dict[str, object] = {
            "tls": _TLS.get(level, ""),
            "helo": self._value("smtp_helo_name"),
            "source": [source] if source else [],
            "generic": self._maps("smtp_generic_maps"),
            **credentials,
        }
        self._sheet.route(["*"], self._target(f"smtp:{host}") if host else "mx:", **more)

    def _credentials(self, host: str) -> dict[str, object]:
        for _, file in self._tables("smtp_sasl_password_maps"):
            found = read_map(self._text_of(file))
            for key in (host, host.strip("[]"), host.partition("]")[0].strip("[")):
                if key in found:
                    name, _, password = found[key].partition(":")
                    self._sheet.files["relayhost.password"] = f"{password}\n"
                    return {"username": name, "password_file": "relayhost.password"}
        self._sheet.leave(
            "smtp_sasl_password_maps", f"no line for {host}; write username and password_file in the route"
        )
        return {}

    @staticmethod
    def _target(value: str, domain: str = "") -> str:
        """`transport:nexthop` (transport(5)) as ours; "" where we have nothing like it."""
        transport, _, hop = value.partition(":")
        match transport:
            case "" | "smtp" | "relay" | "esmtp":
                if not hop or hop == domain:
                    return "mx:"
                host, _, port = hop.partition("]")[0].strip("["), "", hop.rpartition(":")[2]
                if hop.startswith("["):
                    literal = f"[{host}]" if ":" in host else host
                    return f"smtp://{literal}:{port if port.isdigit() else 25}"
                name, _, port = hop.partition(":")
                return f"mx:{name}" + (f":{port}" if port and port != "25" else "")
            case "lmtp":
                if hop.startswith("unix:"):
                    path = hop.removeprefix("unix:")
                    return f"lmtp://{path if path.startswith('/') else f'/var/spool/postfix/{path}'}"
                name = hop.removeprefix("inet:").replace("[", "").replace("]", "")
                return f"lmtp://{name}" if ":" in name else f"lmtp://{name}:24"
            case "error" | "retry":
                text = re.sub(r"[^ -~]", "?", hop).strip() or "mail is not taken here"
                return f"reject:550 {text}" if text.startswith("5.") else f"reject:550 5.1.1 {text}"
            case "discard":
                return "discard:"
            case _:
                return ""


def _time(text: str) -> str:
    """Postfix's time (a number is in days for lifetimes) as ours."""
    return text if text[-1:] in "smhdw" else f"{text}d"


def _without(route: str, quoted: str) -> str:
    """A route's section without one of its domains."""
    head, domains, rest = route.partition("domains = [")
    inside, end, rest = rest.partition("]")
    kept = [each for each in inside.split(", ") if each != quoted]
    return f"{head}{domains}{', '.join(kept)}{end}{rest}"

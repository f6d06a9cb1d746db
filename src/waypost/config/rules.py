"""From `[[route]]` sections to the rules of a route table; the passwords they need are read here."""

from __future__ import annotations

import importlib.util
import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from waypost.config.model import Destination, Going, Route
from waypost.config.sections import Found, Reader
from waypost.config.tls import check_authorities
from waypost.mail.content import AS_IT_CAME, Content, Wishes
from waypost.mail.window import ALWAYS, Hourly, Window
from waypost.net.certificates import BadCertificate, CertificateFiles, read_certificate
from waypost.route.domain import Match
from waypost.route.onward import STAY, Onward
from waypost.route.route import (
    AS_EVER,
    Capture,
    Discard,
    HeloFallback,
    HookFormat,
    Limits,
    LmtpServers,
    Maildir,
    Manner,
    Pipe,
    Reject,
    Retries,
    SmtpMx,
    SmtpServers,
    TlsPolicy,
    Webhook,
)
from waypost.route.table import Means, Override, Rule
from waypost.route.target import RecipientMx, Target, is_address, parse_target, target_text
from waypost.route.whose import Whose
from waypost.smtp.login import Credentials, NoCredentials

_BY_SMTP: Final = (SmtpServers, SmtpMx, RecipientMx)
#: Policies under which a session may be in clear.
_MAYBE_CLEAR: Final = {TlsPolicy.OPPORTUNISTIC, TlsPolicy.AUTO}


def build_rule(found: Found[Route], reader: Reader, *, where: str, base: Path, environment: Mapping[str, str]) -> Rule:
    """The rule of one route; what is wrong with it has been complained of to `reader`, and the rule is of no use."""
    route = found.section
    _check_means(found, reader)
    means = Means(
        tls=tls_policy(route),
        credentials=_credentials(found, reader, base, environment),
        limits=Limits(**_limits(route)),
        manner=Manner(**_manner(route), **_shown(found, reader, base), xclient=route.xclient),
        retries=_retries(route),
        onward=_onward(found, reader),
        on_demand=route.deliver == "on-demand",
        window=_window(found, reader, where),
        content=_content(found, reader, where),
    )
    return Rule(
        name=route.name or _first(route),
        patterns=route.domains,
        target=_equipped(_absolute(route.to, base), found, reader, base, environment),
        means=means,
        relay_only=_relay_only(found, reader),
        whose=Whose(tuple(name.lower() for name in route.accounts), route.senders),
        addresses=tuple(str(address).lower() for address in route.addresses),
        place=f"{Path(where).name}:{reader.lines[found.path]}",
    )


def build_override(found: Found[Destination], *, place: str) -> Override:
    """What one `[[destination]]` says otherwise: only what is written in it."""
    section = found.section
    written = section.model_fields_set

    def said(values: Mapping[str, object], keys: Mapping[str, str]) -> dict[str, object]:
        return {name: value for name, value in values.items() if keys.get(name, name) in written}

    return Override(
        section.domains,
        place,
        limits=said(_limits(section), {"pace": "rate"}),
        retries=said(_own_retries(section), {}),
        manner=said(_manner(section), {"sources": "source", "fallback": "helo_fallback"}),
        means={"tls": TlsPolicy(section.tls)} if "tls" in written else {},
    )


def _limits(going: Going) -> dict[str, Any]:
    return {
        "concurrency": going.concurrency,
        "recipients": going.recipients,
        "messages": going.messages,
        "size": going.size,
        "pace": float(going.rate or 0.0),
    }


def _manner(going: Going) -> dict[str, Any]:
    return {"helo": going.helo, "sources": going.source, "fallback": HeloFallback(going.helo_fallback)}


def _own_retries(going: Going) -> dict[str, Any]:
    return {field.name: getattr(going, field.name) for field in fields(Retries)}


def _retries(going: Going) -> Retries:
    own = Retries(**_own_retries(going))
    return AS_EVER if own == AS_EVER else own


def build_fallbacks(found: Found[Route], reader: Reader, *, where: str) -> Iterable[Rule]:
    """The rule behind a fallback that is written as servers: reached by its name alone."""
    route = found.section
    if not _are_servers(route.fallback):
        return
    try:
        target = parse_target(route.fallback)
    except ValueError as error:
        problem, _, remedy = str(error).partition("; ")
        reader.complain((*found.path, "fallback"), problem, remedy)
        return
    place = f"{Path(where).name}:{reader.lines[(*found.path, 'fallback')]}"
    yield Rule(fallback_name(route), (), target, relay_only=True, place=place)


def check_fallbacks(routes: Sequence[Found[Route]], reader: Reader) -> None:
    """A fallback that is named is there, has a next hop of its own, and leads back to nobody."""
    by_name = {found.section.name: found.section for found in routes if found.section.name}
    for found in routes:
        path, names = (*found.path, "fallback"), found.section.fallback
        if not names and {"fallback_attempts", "fallback_after"} & found.section.model_fields_set:
            reader.complain(found.path, "says when the fallback is due, and has none", "Write fallback beside it")
        if not names or _are_servers(names):
            continue
        route = by_name.get(names[0])
        if len(names) > 1 or route is None or route.domains or isinstance(route.to, RecipientMx):
            problem = f"no route without domains, with a next hop of its own, has the name {' and '.join(names)!r}"
            reader.complain(path, problem, "Write the name of one, or smtp:// servers")
        elif _comes_back(found.section, by_name):
            reader.complain(path, "leads back to this route: mail would go in circles", "Name another")


def _comes_back(route: Route, by_name: Mapping[str, Route]) -> bool:
    seen, at = list[str](), route
    while at.fallback and not _are_servers(at.fallback) and at.fallback[0] in by_name:
        if at.fallback[0] in seen:
            return True
        seen.append(at.fallback[0])
        at = by_name[at.fallback[0]]
    return False


def _onward(found: Found[Route], reader: Reader) -> Onward:
    route = found.section
    if not route.quota and not route.fallback:
        return STAY
    if isinstance(route.to, Capture | Discard | Reject):
        key = "quota" if route.quota else "fallback"
        problem = f"has no effect on {target_text(route.to)}, which takes everything"
        reader.complain((*found.path, key), problem, "Leave it out")
    fallback = fallback_name(route) if _are_servers(route.fallback) else "".join(route.fallback[:1])
    quotas = tuple(quota for quotas in route.quota for quota in quotas)
    after = route.fallback_after
    return Onward(quotas, route.username or route.name or _first(route), fallback, route.fallback_attempts, after)


def _first(route: Route) -> str:
    return next((str(pattern) for pattern in route.domains), "")


def fallback_name(route: Route) -> str:
    """What the rule is called that its servers in `fallback` make."""
    return f"fallback of {route.name or _first(route)}"


def _are_servers(words: Sequence[str]) -> bool:
    return any(":" in word for word in words)


_CONTENT: Final = ("tnef", "uuencode", "binhex", "charset", "wrap", "auto_replies")


def _content(found: Found[Route], reader: Reader, where: str) -> Content:
    """What the route makes of messages; what cannot be has been complained of."""
    route, path = found.section, found.path
    wishes = Wishes(route.tnef, route.uuencode, route.binhex, route.charset.lower(), route.wrap)
    if not wishes and route.auto_replies == "send":
        return AS_IT_CAME
    written = next(key for key in _CONTENT if key in route.model_fields_set)
    if isinstance(route.to, Reject | Discard | Capture):
        reader.complain((*path, written), f"has no effect on {target_text(route.to)}", "Leave it out")
    if route.tnef and importlib.util.find_spec("tnefparse") is None:
        reader.complain((*path, "tnef"), "needs the extra tnef", "pip install 'waypost[tnef]'")
    if route.charset and not _is_charset(route.charset):
        problem = f"{route.charset!r} is no character set of texts"
        reader.complain((*path, "charset"), problem, 'Write one such as "utf-8" or "iso-8859-1"')
    place = f"{Path(where).name}:{reader.lines[(*path, written)]}"
    return Content(wishes, route.auto_replies == "suppress", place)


def _is_charset(name: str) -> bool:
    try:
        return "Straße".encode(name, "replace").decode(name) != "" and name.isascii()
    except (LookupError, UnicodeError, ValueError):
        return False


def _window(found: Found[Route], reader: Reader, where: str) -> Window:
    """When it may deliver; what of it has no effect, or keeps mail for ever, has been complained of."""
    route, path = found.section, found.path
    if not (route.hours or route.open_after or route.open_at):
        if "time_zone" in route.model_fields_set:
            reader.complain((*path, "time_zone"), "has no effect without hours", "Write hours beside it")
        return ALWAYS
    if route.open_at and not (route.hours or route.open_after):
        reader.complain(
            (*path, "open_at"),
            f"fewer than {route.open_at} messages would wait for ever",
            'Write open_after = "1h", or hours, beside it',
        )
    if isinstance(route.to, Reject | Discard | Capture):
        reader.complain((*path, "hours"), f"has no effect on {target_text(route.to)}", "Leave it out")
    key = next(key for key in ("hours", "open_after", "open_at") if key in route.model_fields_set)
    texts = [str(text) for text in reader.value((*path, "hours")) or ()]
    text = f"{', '.join(texts)} {route.time_zone}" if texts else ""
    place = f"{Path(where).name}:{reader.lines[(*path, key)]}"
    return Hourly(route.hours, route.time_zone, route.open_after, route.open_at, text, place)


def tls_policy(route: Route) -> TlsPolicy:
    """What the route says of TLS; where it says nothing, by the kind of its next hop."""
    if route.tls not in {"", "opportunistic"}:
        return TlsPolicy(route.tls)
    if _all_implicit(route.to):
        return TlsPolicy.REQUIRED
    is_by_mx = isinstance(route.to, SmtpMx | RecipientMx) and not route.tls
    return TlsPolicy.AUTO if is_by_mx else TlsPolicy.OPPORTUNISTIC


def _absolute(target: Target, base: Path) -> Target:
    return replace(target, template=str(base / target.template)) if isinstance(target, Maildir) else target


def _equipped(
    target: Target, found: Found[Route], reader: Reader, base: Path, environment: Mapping[str, str]
) -> Target:
    """The target with those settings of the route that are its own; one that has no use for them is complained of."""
    route = found.section
    _check_own_settings(found, reader)
    _check_senders(found, reader)
    match target:
        case SmtpServers(servers) if route.weights:
            if len(servers) != len(route.weights):
                problem = f"has {len(route.weights)} numbers for {len(servers)} servers"
                reader.complain((*found.path, "weights"), problem, "Write one for each server of to")
            return replace(target, weights=route.weights)
        case Webhook():
            if route.ca:
                check_authorities(base / route.ca, (*found.path, "ca"), reader)
            return replace(
                target,
                format=HookFormat(route.format),
                secret=_signing_secret(found, reader, base, environment),
                timeout=route.timeout,
                ca=str(base / route.ca) if route.ca else "",
            )
        case Pipe(arguments):
            if not os.access(arguments[0], os.X_OK):
                reader.complain((*found.path, "to"), f"{arguments[0]} is no program", "Name one that may be executed")
            return replace(target, user=_run_as(found, reader), timeout=route.timeout, memory=route.memory)
        case _:
            return target


def _check_own_settings(found: Found[Route], reader: Reader) -> None:
    route = found.section
    for keys, kind, whose in (
        ({"format", "secret_file", "secret_env", "ca"}, Webhook, "a webhook"),
        ({"run_as", "memory"}, Pipe, "a program (pipe:)"),
        ({"timeout"}, Webhook | Pipe, "a webhook or a program (pipe:)"),
        ({"xclient"}, SmtpServers, "smtp:// servers"),
        ({"weights"}, SmtpServers, "a list of smtp:// servers"),
        ({"helo", "source"}, SmtpServers | SmtpMx | RecipientMx | LmtpServers, "smtp://, lmtp:// and mx:"),
    ):
        for key in sorted(keys & route.model_fields_set):
            if not isinstance(route.to, kind):
                problem = f"has no effect on {target_text(route.to)}"
                reader.complain((*found.path, key), problem, f"Leave it out; it is for {whose}")


def _check_senders(found: Found[Route], reader: Reader) -> None:
    """Whose mail it is for means nothing without domains or addresses to choose from."""
    route = found.section
    if (route.senders or route.accounts) and not (route.domains or route.addresses):
        key = "senders" if route.senders else "accounts"
        reader.complain((*found.path, key), "chooses among no domains", 'Write domains = ["*"] beside it')


def _signing_secret(found: Found[Route], reader: Reader, base: Path, environment: Mapping[str, str]) -> str:
    route = found.section
    if not route.secret_file and not route.secret_env:
        return ""
    if route.secret_file and route.secret_env:
        reader.complain((*found.path, "secret_env"), "there is a secret_file already", "Leave one of the two")
        return ""
    return Secret(route.secret_file, route.secret_env).read(base, environment, found.path, "secret", reader)


def _run_as(found: Found[Route], reader: Reader) -> str:
    user = found.section.run_as
    if not user and os.geteuid() == 0:
        problem = "the program would run as root, on whatever a stranger sends"
        remedy = 'Write run_as = "nobody", or better a user of its own'
        reader.complain((*found.path, "to"), problem, remedy)
    try:
        pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user or "root")
    except (KeyError, OverflowError):
        reader.complain((*found.path, "run_as"), f"there is no user {user!r} on this machine", "Name one that is there")
    return user


def _relay_only(found: Found[Route], reader: Reader) -> bool:
    """Whether a route is for `relay.networks` alone; see `accept_from` in the manual."""
    route = found.section
    catch_all = any(pattern.match is Match.EVERYTHING for pattern in route.domains)
    match route.accept_from:
        case "relay":
            return True
        case "anyone":
            if catch_all:
                reader.complain(
                    (*found.path, "accept_from"),
                    '"anyone" for "*" would make this service an open relay',
                    'List your domains in a route of their own, and leave "*" to relay.networks',
                )
            return False
        case _:
            only_catch_all = catch_all and len(route.domains) == 1
            logs_in = bool(route.username) or route.external
            return only_catch_all or isinstance(route.to, RecipientMx | SmtpMx) or logs_in


def _check_means(found: Found[Route], reader: Reader) -> None:
    """Settings that would have no effect, or one nobody can want."""
    route, path, policy = found.section, found.path, tls_policy(found.section)
    if policy is TlsPolicy.MTA_STS and isinstance(route.to, SmtpServers):
        reader.complain(
            (*path, "tls"), "MTA-STS is for mail exchangers, and this route names its servers", 'Write tls = "verify"'
        )
    if "tls" in route.model_fields_set and not isinstance(route.to, _BY_SMTP):
        reader.complain(
            (*path, "tls"), f"has no effect on {target_text(route.to)}", "Leave it out; it is for smtp:// and mx:"
        )
    if route.tls == "none" and isinstance(route.to, SmtpServers) and any(s.implicit_tls for s in route.to.servers):
        reader.complain((*path, "tls"), "smtps:// is TLS from the first octet", "Leave it out, or write smtp://")
    if route.deliver == "on-demand" and not isinstance(route.to, (*_BY_SMTP, LmtpServers)):
        reader.complain((*path, "deliver"), f"has no effect on {target_text(route.to)}", "Leave it out")
    _check_identity(found, reader)
    if not route.username:
        for key in {"password_file", "password_env", "oauth"} & route.model_fields_set:
            reader.complain((*path, key), "a password without a username is never used", "Write the username too")
    elif not isinstance(route.to, SmtpServers):
        reader.complain(
            (*path, "username"),
            f"no password is ever given to {target_text(route.to)}",
            "Write credentials only where to names smtp:// servers of yours or your provider's",
        )
    elif _may_be_overheard(policy, route.to):
        reader.complain(
            (*path, "username"),
            f'with tls = "{policy.value}" anyone on the way could read the password',
            'Write tls = "verify" (or "required", where the certificate is not the server\'s)',
        )


def _check_identity(found: Found[Route], reader: Reader) -> None:
    """What we are by a certificate, and whose rights we ask for."""
    route, path = found.section, found.path
    if route.client_key and not route.client_certificate:
        reader.complain((*path, "client_key"), "is of no use without its certificate", "Write client_certificate")
    if route.client_certificate and (route.tls == "none" or not isinstance(route.to, _BY_SMTP)):
        reader.complain(
            (*path, "client_certificate"), "is shown under TLS alone, which this route has not", "Leave it out"
        )
    if route.external and (not route.client_certificate or route.username or not isinstance(route.to, SmtpServers)):
        reader.complain(
            (*path, "external"),
            "is a login by client_certificate, without username, at smtp:// servers",
            "Write client_certificate, and no username",
        )
    if route.act_as and (route.oauth or not (route.username or route.external)):
        reader.complain(
            (*path, "act_as"), "needs a login by password or certificate", "Write username, or external = true"
        )


def _may_be_overheard(policy: TlsPolicy, target: SmtpServers) -> bool:
    if policy is TlsPolicy.NONE:
        return not _all_loopback(target)
    return policy in _MAYBE_CLEAR and not _all_implicit(target)


def _all_implicit(target: Target) -> bool:
    return isinstance(target, SmtpServers) and all(server.implicit_tls for server in target.servers)


def _all_loopback(target: SmtpServers | LmtpServers) -> bool:
    return all(is_address(server.host) and ip_address(server.host).is_loopback for server in target.servers)


def _credentials(
    found: Found[Route], reader: Reader, base: Path, environment: Mapping[str, str]
) -> Credentials | NoCredentials:
    route, path = found.section, found.path
    if route.external:
        return Credentials("", "", external=True, act_as=route.act_as)
    if not route.username:
        return NoCredentials()
    if [bool(route.password_file), bool(route.password_env), bool(route.oauth)].count(True) != 1:
        reader.complain(
            (*path, "username"), "needs one password", "Write one of password_file, password_env and oauth beside it"
        )
        return NoCredentials()
    if route.oauth:
        return Credentials(route.username, "", oauth=route.oauth)
    secret = Secret(route.password_file, route.password_env)
    password = secret.read(base, environment, path, "password", reader)
    return Credentials(route.username, password, act_as=route.act_as)


def _shown(found: Found[Route], reader: Reader, base: Path) -> dict[str, Any]:
    """The certificate we show, which can be read now; its files, as a Manner has them."""
    route, path = found.section, found.path
    if not route.client_certificate:
        return {}
    certificate = base / route.client_certificate
    files = CertificateFiles(certificate, base / route.client_key if route.client_key else certificate)
    read = read_certificate(files)
    if isinstance(read, BadCertificate):
        reader.complain((*path, "client_certificate"), read.problem, read.remedy)
    return {"certificate": str(files.certificate), "key": str(files.key)}


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret stands: in a file, or in the environment."""

    file: str
    variable: str

    def read(
        self, base: Path, environment: Mapping[str, str], path: tuple[str | int, ...], key: str, reader: Reader
    ) -> str:
        """The secret; what is wrong with it is complained of at `{key}_file` or `{key}_env`."""
        if not self.variable:
            return _password_in(base / self.file, (*path, f"{key}_file"), reader)
        value = environment.get(self.variable, "")
        if not value:
            reader.complain((*path, f"{key}_env"), f"the environment has no {self.variable}", "Set it, and start again")
        return value


def _password_in(file: Path, path: tuple[str | int, ...], reader: Reader) -> str:
    """The file's text without the line break at its end."""
    try:
        password = file.read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        remedy = "Write the password into it, and nothing else" if missing else f"Let user {os.geteuid()} read it"
        reader.complain(path, f"{file} cannot be read: {error.strerror}", remedy)
        return ""
    except UnicodeDecodeError:
        reader.complain(path, f"{file} is not UTF-8 text", "Write nothing but the password in it")
        return ""
    if not password or "\n" in password:
        reader.complain(path, f"{file} does not hold one line", "Write nothing but the password in it")
    return password

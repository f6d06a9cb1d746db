"""Which way mail may go: `service.mode`, and what a `[[listener]]` demands and permits; what is wrong with them.

A route whose direction is off would take mail that never leaves, so it is an error and no surprise.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from waypost.config.model import Auth, Listener, Route, Service
from waypost.config.sections import Found, Reader
from waypost.route.domain import Match
from waypost.route.route import Capture, Discard, Reject
from waypost.route.table import Rule

#: Where mail goes that leaves this machine in no mode.
_NOWHERE = (Capture, Discard, Reject)


def check_mode(
    services: Sequence[Service], routes: Sequence[Found[Route]], rules: Sequence[Rule], reader: Reader
) -> None:
    """No route leads out where nothing goes out, and none takes a stranger's mail where none is taken."""
    for service in services:
        for found, rule in zip(routes, rules, strict=True):
            if isinstance(rule.target, _NOWHERE):
                continue
            if service.mode == "inbound" and leads_out(rule):
                reader.complain(
                    (*found.path, "to"),
                    f'"{rule.name}" leads out, and with mode = "inbound" nothing goes out: its mail would never leave',
                    'Leave the route out, or write mode = "both"',
                )
            if service.mode == "outbound" and lets_in(rule):
                reader.complain(
                    (*found.path, "accept_from"),
                    f'"{rule.name}" is for anyone\'s mail, and with mode = "outbound" nobody else\'s is taken',
                    'Write accept_from = "relay", or mode = "both"',
                )


def leads_out(rule: Rule) -> bool:
    """Whether its domains, or some of them, are not ours."""
    return rule.relay_only or any(pattern.match is Match.EVERYTHING for pattern in rule.patterns)


def lets_in(rule: Rule) -> bool:
    """Whether anybody may send to some of its domains."""
    return not rule.relay_only and any(pattern.match is not Match.EVERYTHING for pattern in rule.patterns)


def check_demands(listeners: Sequence[Found[Listener]], auths: Sequence[Auth], reader: Reader) -> None:
    """A login can be demanded where there are accounts, by certificate where one is asked for; see `relay` too."""
    has_accounts = any(auth.users or auth.pam_service or auth.ldap_url or auth.issuer for auth in auths)
    for found in listeners:
        listener = found.section
        if listener.auth in {"offered", "required"} and not has_accounts:
            reader.complain(
                (*found.path, "auth"),
                f'"{listener.auth}" needs accounts, and [auth] names none',
                'Write [auth], and below it users = "users"',
            )
        if listener.relay == "always" and not _is_private(listener.address.host):
            reader.complain(
                (*found.path, "relay"),
                f"anybody who reaches {listener.address} could send anywhere: an open relay",
                "Give it a private address of this machine, such as 10.0.0.1, or list the clients in relay.networks",
            )
    for auth in auths:
        if "EXTERNAL" in auth.mechanisms and not any(found.section.client_ca for found in listeners):
            reader.complain(
                ("auth", "mechanisms"),
                "EXTERNAL needs a client's certificate, and no listener asks for one",
                "Write client_ca, the CA of your clients' certificates, into the [[listener]] for submission",
            )


def _is_private(host: str) -> bool:
    address = ip_address(host)
    return address.is_private and not address.is_unspecified

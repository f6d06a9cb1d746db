"""Building what takes mail: the receiver, its doors, and the ways in that are no SMTP."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from waypost.admin.answers import ListenerFacts
from waypost.app.base import Base
from waypost.app.parts import Parts
from waypost.config import Config
from waypost.config.change import revision
from waypost.config.model import Listener
from waypost.config.parts import access, copies, login_at, mechanisms, relay_policy, senders
from waypost.deliver.calls import Calls
from waypost.deliver.dispatch import Dispatcher
from waypost.net.certificates import Keyring
from waypost.net.sockets import Sockets
from waypost.net.stream import Endpoint
from waypost.policy.hooked import Hooked
from waypost.receive.authorship import FromField
from waypost.receive.house import House
from waypost.receive.http import Guard, HttpDoor
from waypost.receive.intake import NOWHERE, Intake
from waypost.receive.pickup import Pickup
from waypost.receive.server import Receiver
from waypost.receive.settings import Door, ReceiveSettings, Relaying
from waypost.receive.transactions import MAX_RECIPIENTS
from waypost.receive.turns import QueueTurns
from waypost.route.route import OnCall
from waypost.smtp.settings import ServerSettings

_RELAYING: Final = {"": Relaying.AS_LISTED, "always": Relaying.ALWAYS, "never": Relaying.NEVER}


def doors_of(base: Base) -> tuple[Door, ...]:
    """The listeners that speak SMTP or LMTP."""
    return tuple(_door(base.config, listener, base.keyring) for listener in base.listeners if listener.role != "http")


def _door(config: Config, listener: Listener, keyring: Keyring) -> Door:
    is_web, is_submission = listener.role == "http", listener.role == "submission"
    login, recipients = login_at(listener, config), listener.recipients or config.limits.recipients
    return Door(
        listener.address,
        ServerSettings(
            hostname=config.service.hostname,
            size_limit=listener.message_size or config.limits.message_size,
            lmtp=listener.role == "lmtp",
            etrn=listener.role in {"mx", "submission"},
            atrn=listener.role in {"mx", "submission"}
            and any(isinstance(rule.target, OnCall) for rule in config.rules),
            max_recipients=recipients,
            max_recipient_domains=config.limits.recipient_domains,
            max_errors=recipients if is_web else listener.errors or config.limits.errors,
            future_release=config.limits.future_release if is_submission else timedelta(),
            mechanisms=mechanisms(config) if login != "none" else (),
            starttls=listener.tls in {"opportunistic", "required"},
            tls_required=listener.tls == "required",
        ),
        name=listener.name,
        relay_clients_only=config.service.mode == "outbound" or (is_submission and login != "required"),
        submission=is_web or (is_submission and bool(mechanisms(config))),
        demands_login=login == "required",
        exempt=listener.exempt,
        relaying=_RELAYING[listener.relay],
        implicit_tls=listener.tls == "implicit",
        context=partial(keyring.context, listener.client_ca),
        proxies=listener.proxies,
        xclient=listener.xclient,
        from_field=FromField(config.auth.from_field),
        protocol=_protocol(listener) if is_web else "",
        connections=listener.connections,
        connections_per_client=0 if is_web else listener.connections_per_client,
        messages=0 if is_web else listener.messages,
        session=timedelta() if is_web else listener.session,
    )


def _protocol(listener: Listener) -> str:
    return "HTTPS" if listener.tls == "implicit" else "HTTP"


def _receive_settings(config: Config) -> ReceiveSettings:
    return ReceiveSettings(
        command=config.timeouts.command,
        body_block=config.timeouts.body_block,
        body_total=config.timeouts.body_total,
        connections=config.limits.connections,
        connections_per_client=config.limits.connections_per_client,
        connections_per_network=config.limits.connections_per_network,
        session=config.limits.session,
        messages=config.limits.messages,
        hops=config.limits.hops,
        draining=config.service.mode == "flush",
    )


def house_of(base: Base, dispatcher: Dispatcher, calls: Calls) -> House:
    """What all sessions share."""
    config = base.config
    return House(
        storage=base.storage,
        admission=base.admission,
        relay=relay_policy(config),
        access=access(config),
        senders=senders(config),
        copies=copies(config),
        hooked=Hooked(base.hooks),
        settings=_receive_settings(config),
        clock=base.clock,
        ids=base.ids,
        log=base.journal,
        onward=dispatcher,
        in_flight=base.in_flight,
        resent=base.resent,
        space=base.room,
        logins=base.logins,
        turns=QueueTurns(base.storage, base.clock, dispatcher.try_again, calls),
        gate=base.gate,
        revision=revision(config.text),
        traced=base.traced,
    )


def receiver_of(base: Base, parts: Parts, house: House) -> Receiver:
    """Who serves clients, and lets what they say be overheard."""
    receiver = parts.receiver(doors_of(base), house)
    receiver.ears = base.ears
    return receiver


def web_doors_of(base: Base, receiver: Receiver, sockets: Sockets) -> Sequence[HttpDoor]:
    """The listeners that take mail over HTTP."""
    config = base.config
    guard = Guard(base.logins, relay_policy(config), base.journal, base.clock, mechanisms(config))
    return [
        HttpDoor(_intake(base, receiver, _door(config, listener, base.keyring)), guard, sockets)
        for listener in base.listeners
        if listener.role == "http"
    ]


def pickup_of(base: Base, receiver: Receiver) -> Pickup:
    """Who takes up the files that sendmail leaves."""
    config = base.config
    settings = ServerSettings(
        hostname=config.service.hostname,
        size_limit=config.limits.message_size,
        max_recipients=MAX_RECIPIENTS,
        max_errors=MAX_RECIPIENTS,
    )
    door = Door(NOWHERE, settings, name="pickup", submission=True, protocol="local")
    return Pickup(config.pickup_directory, _intake(base, receiver, door), base.clock, base.journal, config.pickup.poll)


def _intake(base: Base, receiver: Receiver, door: Door) -> Intake:
    name = f"{socket.gethostname()}:{base.config.spool}"
    return Intake(receiver.serve, door, base.storage, base.clock, base.ids, name)


def endpoints_of(base: Base, receiver: Receiver, web_doors: Sequence[HttpDoor]) -> tuple[Endpoint, ...]:
    """The addresses that are open, in the order of the configuration."""
    mail, web = iter(receiver.endpoints), iter(door.endpoint for door in web_doors)
    return tuple(next(web if listener.role == "http" else mail) for listener in base.listeners)


def listener_facts(base: Base, receiver: Receiver, web_doors: Sequence[HttpDoor]) -> tuple[ListenerFacts, ...]:
    """What is told of the listeners."""
    endpoints = endpoints_of(base, receiver, web_doors)
    return tuple(
        ListenerFacts(listener.role, str(endpoint))
        for listener, endpoint in zip(base.listeners, endpoints, strict=True)
    )

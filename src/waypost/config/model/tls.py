"""TLS that listeners and deliveries have in common; what one of them demands is a setting of its own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from waypost.config.model.values import Section, Text


class Certificate(Section):
    """A certificate for the listeners' TLS; each is its own `[[certificate]]`, the first for clients that name no host.

    Files that change are read again within seconds, and at SIGHUP; one that is broken then changes nothing.
    """

    certificate: Text = Field(
        description="File with the certificate in PEM, and its chain behind it; relative to the configuration file.",
        examples=["/etc/letsencrypt/live/mx.example.net/fullchain.pem"],
    )
    key: Text = Field(
        description="File with its private key in PEM, without a passphrase.",
        examples=["/etc/letsencrypt/live/mx.example.net/privkey.pem"],
    )
    names: tuple[Text, ...] = Field(
        default=(),
        description="Host names it is shown for (SNI), `*.example.net` for all of one label more; empty: those in it.",
        examples=[("mx.example.net",)],
    )


class Tls(Section):
    """TLS, of the listeners and of deliveries."""

    minimum: Literal["1.2", "1.3"] = Field(
        default="1.2",
        description="The least version. 1.0 and 1.1 are gone for good (RFC 8996); with `1.3` some mail servers of "
        "today will fall back to clear text.",
    )

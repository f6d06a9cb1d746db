"""How mail comes in: listeners, a directory of files, and providers that keep it until we call."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from waypost.config.model.values import (
    SIZE,
    Duration,
    Listening,
    Networks,
    OwnCount,
    OwnDuration,
    Section,
    Text,
    Words,
    judged,
    size_from,
)


def _own_size(text: str) -> int:
    return size_from(64 * 1024)(text) if text != "0" else 0


class Listener(Section):
    """An address to accept mail on. At least one; each is its own `[[listener]]`."""

    address: Listening = Field(
        description="Numeric address and port; IPv6 in brackets; port 0 lets the system choose.",
        examples=["0.0.0.0:25"],
    )
    role: Literal["mx", "submission", "lmtp", "http"] = Field(
        default="mx",
        description="`mx`: mail for our domains from anyone, for others from `relay.networks`. `submission`: who has "
        "authenticated may send, to anywhere, under the reverse-paths of the account (RFC 6409); without accounts "
        "(`[auth]`) `relay.networks` alone. `lmtp`: as `mx`, spoken over LMTP (RFC 2033). `http`: messages by "
        '`POST /v1/messages`, from accounts and from `relay.networks`; over TLS with `tls = "implicit"`.',
    )
    name: Text = Field(default="listener", description="What logs and metrics call it.")
    tls: Literal["none", "opportunistic", "required", "implicit", ""] = Field(
        default="",
        description="`none`: never. `opportunistic`: STARTTLS is offered. `required`: and no mail is taken before it. "
        "`implicit`: TLS from the first octet, as on port 465. Empty: `opportunistic` (for `http` "
        "`implicit`) where there is a `[[certificate]]`, else `none`.",
    )
    client_ca: Words = Field(
        default="",
        description="File of CAs (PEM): clients are asked for a certificate of theirs, which is logged and goes into "
        "the trace; they may log in by it where `auth.mechanisms` has `EXTERNAL`. One that has none is let in; one "
        "that shows another's is not. Empty: nobody is asked.",
    )
    proxies: Networks = Field(
        default=(),
        description="Networks (or single addresses) of load balancers in front of this listener: their connections "
        "begin with a PROXY header (version 1 or 2), and the client is whom it names. Nobody else's is believed.",
        examples=[("192.0.2.7", "10.1.0.0/24")],
    )

    xclient: Networks = Field(
        default=(),
        description="Networks (or single addresses) of filters and proxies that hand sessions on, and may say by "
        "Postfix's XCLIENT whose: the client is then judged, logged and traced as if it had connected itself. Their "
        "word is taken for its login, too. XCLIENT is offered to nobody else.",
        examples=[("127.0.0.1",)],
    )
    auth: Literal["", "none", "offered", "required"] = Field(
        default="",
        description="Whether AUTH is offered, or demanded before MAIL (530 5.7.0). Empty: `required` for `submission` "
        "where there are accounts, else `none`. What encryption it demands stands in `tls`.",
    )
    exempt: Networks = Field(
        default=(),
        description="Networks whose clients need neither log in nor encrypt here, whatever `auth` and `tls` demand.",
        examples=[("192.0.2.9",)],
    )
    relay: Literal["", "always", "never"] = Field(
        default="",
        description="`always`: whoever reaches this address may send through us to anywhere, so it must be a private "
        "one. `never`: nobody may here, whatever `[relay]` or an account says. Empty: as `[relay]` says.",
    )
    message_size: Annotated[int, PlainValidator(judged(_own_size, "size in quotes")), SIZE] = Field(
        default=0, description='Largest message taken here; `"0"`: as `limits.message_size`.', examples=["10M"]
    )
    recipients: OwnCount = Field(default=0, description="Recipients a transaction here; 0: as `limits.recipients`.")
    connections: OwnCount = Field(
        default=0,
        description="Clients at once here, so that one listener never takes the room of the others: they count for "
        "`limits.connections` all the same. 0: no limit of its own. For `http` this is all connections, and `503` the "
        "answer to a request on one too many.",
    )
    connections_per_client: OwnCount = Field(
        default=0,
        description="Connections at once here from one client address, besides `limits.connections_per_client`; 0: no "
        "limit of its own. Not for `http`.",
    )
    messages: OwnCount = Field(
        default=0, description="Messages a session here; 0: as `limits.messages`. Not for `http`."
    )
    session: OwnDuration = Field(
        default=timedelta(),
        description='How long a session may last here; `"0s"`: as `limits.session`. Not for `http`.',
    )
    errors: OwnCount = Field(
        default=0,
        description="Commands refused before a session is closed here; 0: as `limits.errors`. Not for `http`.",
    )


class Pickup(Section):
    """A directory for messages as files: `waypost-sendmail` writes there, and whatever program can rename a file."""

    directory: Words = Field(
        default="",
        description="Files `NAME.eml` in it are taken and removed; those that never can be lie in `bad/`, with the "
        "reason beside each. Made where it is missing, for every user to write and none but the service to list; "
        "relative to the configuration file. Who may write there may send as anybody, to anywhere. Empty: none.",
        examples=["/var/spool/waypost-pickup"],
    )
    poll: Duration = Field(default=timedelta(seconds=1), description="How often it is looked at.")


class Fetch(Section):
    """A provider that keeps our mail until we call for it; each is its own `[[fetch]]`.

    By ATRN (RFC 2645) the mail comes over the connection we make, so that nobody has to reach us; by ETRN (RFC 1985)
    the provider connects to our listener. Mail for domains that are not ours is refused.
    """

    name: Text = Field(description="What logs call it.", examples=["provider"])
    server: Text = Field(
        description="`smtp://host:366` (RFC 2645 gives ATRN port 366) or `smtps://host:465`.",
        examples=["smtp://odmr.provider.example:366"],
    )
    command: Literal["atrn", "etrn"] = Field(default="atrn", description="How it is asked.")
    domains: tuple[Text, ...] = Field(
        default=(),
        description="Domains whose mail is asked for. Empty, by ATRN: all that the account has.",
        examples=[("example.com",)],
    )
    every: Duration = Field(default=timedelta(minutes=15), description="How often; the first time at the start.")
    tls: Literal["", "none", "opportunistic", "required", "verify"] = Field(
        default="", description="As of a route. Empty: `verify`, on loopback `opportunistic`."
    )
    username: Words = Field(default="", description="For AUTH; ATRN needs it.")
    password_file: Words = Field(
        default="", description="File with the password, read at start; relative to the configuration file."
    )
    password_env: Words = Field(default="", description="Environment variable with the password, read at start.")
    oauth: Words = Field(default="", description="The `[[oauth]]` whose access token stands in the password's place.")

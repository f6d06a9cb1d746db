"""Accounts: of those who submit mail to us, and ours at smart hosts that take access tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import Field

from waypost.config.model.values import Count, Duration, Kind, Section, Text, Words

#: SASL mechanisms of ours, the strongest first.
Mechanism = Literal["EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"]
#: Without -PLUS: clients that know another channel binding than ours would choose it, and fail.
_OFFERED: Final[tuple[Mechanism, ...]] = ("SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2")


class Auth(Section):
    """The accounts of those who submit mail. AUTH is offered to them under TLS, and in clear on loopback alone."""

    users: Words = Field(
        default="",
        description="The users' file, made by `waypost user add`, of mode 0600; relative to the configuration file. "
        "It is read again when it changes. Empty: there are no accounts.",
        examples=["users"],
    )
    domain: Words = Field(
        default="",
        description="Where an account whose name is no address has its own: the reverse-path it may use, unless its "
        "`may_send_as` says more. Empty: the postmaster's domain.",
    )
    mechanisms: tuple[Mechanism, ...] = Field(
        default=_OFFERED,
        min_length=1,
        description="What is offered, of that which the accounts can be judged by. `SCRAM-SHA-256-PLUS` is offered "
        "only where it is listed: it binds the login to the TLS connection by `tls-server-end-point`, which not every "
        "client knows. So is `EXTERNAL`, the login by a certificate on listeners with `client_ca`: it is that of the "
        "account it is pinned to, or whose name is an e-mail address in it.",
    )
    from_field: Literal["any", "sender", "refuse"] = Field(
        default="any",
        description="What becomes of a submitted message whose From (or Sender, where there is one) is not an address "
        "the account may send as. `any`: it is taken. `sender`: a Sender field with the reverse-path is put in front "
        "(RFC 6409 §8.1). `refuse`: 554, as is a message without From.",
    )
    pam_service: Words = Field(
        default="", description="In place of `users`: the service of PAM that knows passwords (extra `pam`)."
    )
    ldap_url: Words = Field(
        default="",
        description="In place of `users`: the directory that knows passwords, `ldaps://` or `ldap://` with StartTLS "
        "(extra `ldap`).",
    )
    ldap_dn: Words = Field(
        default="", description="The name a user binds by, `%u` for what he gave: `uid=%u,ou=people,dc=example,dc=net`."
    )
    ldap_ca: Words = Field(
        default="",
        description="A file of authorities (PEM), relative to the configuration file, that the directory's certificate "
        "is verified by; empty: those that this machine trusts.",
    )
    issuer: Words = Field(
        default="",
        description="Who issues tokens for OAUTHBEARER and XOAUTH2, as their `iss` names it (extra `oauth`).",
    )
    issuer_keys: Words = Field(
        default="", description="Its public keys (JWKS): a file, relative to the configuration file, or an https URL."
    )
    issuer_audience: Words = Field(default="", description="Us, as the tokens' `aud` names us.")
    issuer_claim: Text = Field(default="email", description="The claim of a token that names the account.")
    network_failures: Count = Field(
        default=20, description="Failed logins from one client address (IPv6: one /64) after which none is tried."
    )
    account_failures: Count = Field(
        default=50,
        description="Failed logins to one account after which none is tried, but from where it logged in before.",
    )
    failure_window: Duration = Field(
        default=timedelta(minutes=15), description="How long without a failure until they are forgotten."
    )
    token_key_file: Words = Field(
        default="",
        description="The key that encrypts OAuth tokens in the spool, made by `waypost oauth login`, of mode 0600; "
        "keep it apart from the spool's backup. Relative to the configuration file.",
        examples=["oauth.key"],
    )
    token_key_env: Words = Field(default="", description="Environment variable with that key, in its place.")


class OAuth(Section):
    """An OAuth 2.0 authorisation for a smart host that takes access tokens: Microsoft 365, Gmail and others."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$"), Kind("word")] = Field(
        description="What `route.oauth` and `waypost oauth` call it: lower-case letters, digits and hyphens.",
        examples=["microsoft"],
    )
    provider: Literal["google", "microsoft", "other"] = Field(
        default="other", description="Whose addresses and scope stand in for those left empty below."
    )
    tenant: Words = Field(default="common", description="For Microsoft: the directory, by name or id.")
    grant: Literal["user", "client"] = Field(
        default="user",
        description="`user`: somebody logs in with `waypost oauth login`, and the token is renewed from then on. "
        "`client`: the program is its own user (client credentials), and nobody logs in.",
    )
    client_id: Text = Field(description="The program's id, as the provider registered it.", examples=["0a1b2c3d"])
    client_secret_file: Words = Field(
        default="", description="File with its secret, read at start; relative to the configuration file."
    )
    client_secret_env: Words = Field(default="", description="Environment variable with its secret, read at start.")
    token_url: Words = Field(default="", description="Where tokens are granted; https, or http on loopback.")
    device_url: Words = Field(default="", description="Where a login on another device begins (RFC 8628).")
    authorize_url: Words = Field(default="", description="Where a login in a browser begins (RFC 8252).")
    scope: Words = Field(default="", description="What is asked for.")
    notify: Words = Field(
        default="",
        description="Who gets a message when the authorisation has ended; its route must not need this authorisation. "
        "Empty: the postmaster.",
    )

"""Passwords that a directory knows: asked over real LDAP, of a server that answers as it is told; and PAM."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from waypost.auth.account import Account
from waypost.auth.authenticator import CannotTell, NotKnown
from waypost.auth.directory import PATIENCE, Directory, LdapPasswords, MissingExtraError, PamPasswords
from waypost.net.ldap import LdapServer

DN = "uid=%u,ou=people,dc=example,dc=net"


def account(name: str) -> Account:
    return Account(name, (f"{name}@example.net",))


@contextmanager
def directory(code: int) -> Iterator[tuple[str, list[bytes]]]:
    """Its URL, and what it was asked; each bind is answered with the result `code` (RFC 4511 §4.2.2)."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                request = connection.recv(4096)
                asked.append(request)
                number = request[4:5]  # of the message, one octet in a test
                connection.sendall(
                    b"\x30\x0c\x02\x01" + number + b"\x61\x07\x0a\x01" + bytes([code]) + b"\x04\x00\x04\x00"
                )
                connection.recv(4096)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"ldap://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_who_can_bind_has_the_password() -> None:
    with directory(0) as (url, asked):
        passwords = LdapPasswords(Directory(url, DN), account)
        assert passwords.check("Alice", "sesame") == account("alice")
        assert b"uid=Alice,ou=people,dc=example,dc=net" in asked[0]
        assert b"sesame" in asked[0]


def test_a_name_cannot_reach_out_of_its_place() -> None:
    with directory(49) as (url, asked):
        LdapPasswords(Directory(url, DN), account).check("x,dc=evil", "sesame")
        assert b"uid=x\\,dc\\=evil,ou=people" in asked[0]


@pytest.mark.parametrize(("code", "verdict"), [(49, NotKnown), (51, CannotTell), (8, CannotTell)])
def test_what_the_directory_says_is_a_word_or_passes(code: int, verdict: type) -> None:
    with directory(code) as (url, _):
        found = LdapPasswords(Directory(url, DN), account).check("alice", "sesame")
    assert isinstance(found, verdict)
    assert "sesame" not in repr(found)


def test_without_a_password_nobody_is_asked() -> None:
    assert isinstance(LdapPasswords(Directory("ldap://127.0.0.1:1", DN), account).check("alice", ""), NotKnown)


def test_only_this_machine_is_asked_in_clear() -> None:
    assert LdapServer("ldap://127.0.0.1:389", PATIENCE).is_local
    assert not LdapServer("ldap://ldap.example.net", PATIENCE).is_local


class Pam:
    reason = "Authentication failure"

    def authenticate(self, username: str, password: str, service: str) -> bool:
        return (username, password, service) == ("alice", "sesame", "waypost")


def test_pam_is_asked_by_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pam", SimpleNamespace(PamAuthenticator=Pam))
    passwords = PamPasswords("waypost", account)
    assert passwords.check("alice", "sesame") == account("alice")
    assert passwords.check("alice", "open") == NotKnown("PAM: Authentication failure")


@pytest.mark.parametrize("module", ["pam", "ldap3"])
def test_an_extra_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'waypost\["):
        PamPasswords("login", account) if module == "pam" else LdapPasswords(Directory("", ""), account)

"""The users' file: what is kept, who may read it, and that it changes whole."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.auth.people import ALICE, PASSWORD, alice, users_file
from waypost.auth.account import Account, own_address
from waypost.auth.authenticator import CannotTell, NotKnown, UserFile
from waypost.auth.scram import Keys
from waypost.auth.users import User, UsersError, changing, fingerprint, hashed, load_users, save_users, verifies
from waypost.smtp.path import NullPath, parse_mailbox


def test_a_user_is_read_back_as_he_was_written(tmp_path: Path) -> None:
    odd = User('a"b]\\ü', alice().password, alice().scram, ("*",))
    path = users_file(tmp_path, alice(), odd)
    assert load_users(path) == {ALICE: alice(), odd.name: odd}
    assert path.stat().st_mode & 0o777 == 0o600


def test_whom_a_user_may_be_and_by_which_certificates_is_read_back_too(tmp_path: Path) -> None:
    user = replace(alice(), may_act_as=("*",), certificates=("5d" * 32,))
    assert load_users(users_file(tmp_path, user)) == {ALICE: user}


def test_a_certificate_s_digest_is_read_as_openssl_prints_it() -> None:
    assert fingerprint(":".join(["5D"] * 32)) == "5d" * 32
    with pytest.raises(ValueError, match="fingerprint -sha256"):
        fingerprint("5d" * 20)


def test_no_password_can_be_read_off_the_file(tmp_path: Path) -> None:
    text = users_file(tmp_path).read_text()
    assert PASSWORD not in text
    assert "$argon2id$" in text
    assert PASSWORD not in repr(alice())
    assert alice().password not in repr(alice())


def test_a_password_is_verified_as_saslprep_has_it() -> None:
    """RFC 4013 §3: a soft hyphen is mapped to nothing; PLAIN and SCRAM must agree on that."""
    user = hashed("bob", "I\u00adX")
    assert verifies("IX", user.password)
    assert not verifies("I-X", user.password)


@pytest.mark.parametrize(("name", "password"), [("", "x"), ("a\nb", "x"), ("a", ""), ("a", "x\0"), ("a", "x" * 2000)])
def test_a_name_or_password_that_nobody_could_use_is_refused(name: str, password: str) -> None:
    with pytest.raises(ValueError, match="octets"):
        hashed(name, password)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_file_that_others_may_open_is_not_used(tmp_path: Path, mode: int) -> None:
    path = users_file(tmp_path)
    path.chmod(mode)
    with pytest.raises(UsersError, match=r"open to others .*; chmod 600"):
        load_users(path)


@pytest.mark.parametrize(
    "text",
    [
        "[a",
        "a = 1",
        "[a]\npassword = 1",
        '[a]\npassword = "x"\nscram = "y"',
        '[a]\npassword = "x"\nscram = "y"\nrole = "root"',
        "\ufffe",
    ],
)
def test_a_damaged_file_is_told_of_with_its_remedy(tmp_path: Path, text: str) -> None:
    path = users_file(tmp_path)
    path.write_text(text)
    with pytest.raises(UsersError, match=r"is damaged: .*; mend it"):
        load_users(path)


def test_a_missing_file_names_who_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UsersError, match="waypost user add"):
        load_users(tmp_path / "users")


def test_a_block_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = users_file(tmp_path)

    def fail() -> None:
        with changing(path) as users:
            users.clear()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert load_users(path) == {ALICE: alice()}
    assert list(tmp_path.iterdir()) == [path]


def add_one(path: Path, name: str) -> None:
    with changing(path) as users:
        users[name] = User(name, "x", Keys(4096, b"s", b"k", b"k"))


def test_two_who_change_it_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "users"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=add_one, args=(path, f"user{number}")) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(load_users(path)) == 8


def test_the_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = UserFile(users_file(tmp_path), "example.net")
    assert file.check(ALICE, PASSWORD) == Account(ALICE, (ALICE,))
    assert file.check(ALICE.upper(), PASSWORD) == Account(ALICE, (ALICE,))
    assert file.check(ALICE, "open") == NotKnown("wrong password")
    assert file.check("bob", PASSWORD) == NotKnown("no such user")
    save_users(file.path, {})
    assert file.check(ALICE, PASSWORD) == NotKnown("no such user")
    file.path.chmod(0o644)
    assert isinstance(file.check(ALICE, PASSWORD), CannotTell)


def test_a_hash_that_is_none_is_our_trouble_and_not_the_clients(tmp_path: Path) -> None:
    file = UserFile(users_file(tmp_path, User("bob", "plain", alice().scram)), "example.net")
    assert isinstance(file.check("bob", "plain"), CannotTell)


@pytest.mark.parametrize(
    ("entries", "path", "may"),
    [
        (("alice@example.net",), "alice@example.net", True),
        (("alice@example.net",), "Alice@Example.NET", True),
        (("alice@example.net",), "bob@example.net", False),
        (("example.net",), "bob@example.net", True),
        (("example.net",), "bob@sub.example.net", True),
        (("example.net",), "bob@notexample.net", False),
        (("*",), "bob@anywhere.example", True),
        ((), "bob@example.net", False),
    ],
)
def test_an_account_may_send_as_its_entries_say(entries: tuple[str, ...], path: str, may: bool) -> None:  # noqa: FBT001
    account = Account("x", entries)
    assert account.may_use(parse_mailbox(path)) is may
    assert account.may_use(NullPath())


def test_an_accounts_own_address_follows_from_its_name() -> None:
    assert own_address("Alice", "example.net") == "alice@example.net"
    assert own_address("Alice@Other.example", "example.net") == "alice@other.example"


def test_a_password_may_have_1024_octets_and_each_of_them_counts() -> None:
    longest = "x" * 1023 + "y"
    user = hashed("bob", longest)
    assert verifies(longest, user.password)
    assert not verifies(longest[:-1], user.password)
    assert not verifies("x" * 1024, user.password)
    with pytest.raises(ValueError, match="1024"):
        hashed("bob", longest + "z")

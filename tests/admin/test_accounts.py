"""`waypost user`: accounts are added, listed, changed and removed, and no password is ever shown."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.net.certificates import make
from waypost.__main__ import program
from waypost.auth.users import load_users, verifies

CONFIG = """\
[service]
hostname = "mx.example.net"
spool = "spool"
postmaster = "postmaster@example.org"
[[listener]]
address = "127.0.0.1:0"
role = "submission"
[auth]
users = "users"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "waypost.toml"
    path.write_text(CONFIG)
    return path


def user(config: Path, *words: str, typed: str = "") -> Result:
    return CliRunner().invoke(program(), ["user", *words, "--config", str(config)], input=typed)


def test_an_account_is_added_and_its_password_is_hashed(config: Path) -> None:
    done = user(config, "add", "Alice", "--password-stdin", typed="sesame\n")
    assert done.exit_code == 0, done.output
    assert done.output == "alice may log in now, and send as alice@example.org.\n"
    found = load_users(config.parent / "users")["alice"]
    assert verifies("sesame", found.password)


def test_the_password_is_not_part_of_the_command_line_or_the_answer(config: Path) -> None:
    done = user(config, "add", "bob", "--password-stdin", "--json", typed="sesame\n")
    assert json.loads(done.output) == {"name": "bob", "may_send_as": ["bob@example.org"], "may_act_as": []}
    assert "sesame" not in (config.parent / "users").read_text()


def test_an_account_that_is_there_is_not_added_again(config: Path) -> None:
    user(config, "add", "bob", "--password-stdin", typed="sesame\n")
    again = user(config, "add", "BOB", "--password-stdin", typed="open\n")
    assert again.exit_code == 1
    assert "waypost user passwd" in again.output
    assert verifies("sesame", load_users(config.parent / "users")["bob"].password)


def test_a_new_password_leaves_what_it_may_send_as(config: Path) -> None:
    user(config, "add", "shop", "--password-stdin", "--may-send-as", "Shop.Example", "--may-send-as", "*", typed="a\n")
    assert user(config, "passwd", "shop", "--password-stdin", typed="b\n").exit_code == 0
    found = load_users(config.parent / "users")["shop"]
    assert verifies("b", found.password)
    assert found.may_send_as == ("shop.example", "*")
    (row,) = json.loads(user(config, "list", "--json").output)
    assert row == {"name": "shop", "may_send_as": ["shop.example", "*"], "may_act_as": []}


def test_an_account_may_act_as_others_and_log_in_by_certificates_and_a_new_password_leaves_both(config: Path) -> None:
    user(config, "add", "boss", "--password-stdin", "--may-act-as", "Sales", typed="a\n")
    made = make("boss")
    (config.parent / "boss.pem").write_bytes(made.pem)
    done = user(config, "certificate", "boss", str(config.parent / "boss.pem"))
    assert done.output == "boss may log in by 1 certificate.\n"
    user(config, "passwd", "boss", "--password-stdin", typed="b\n")
    found = load_users(config.parent / "users")["boss"]
    assert found.may_act_as == ("sales",)
    assert found.certificates == (sha256(made.der).hexdigest(),)
    assert user(config, "certificate", "boss").output == "boss may log in by no certificate of its own.\n"
    assert load_users(config.parent / "users")["boss"].certificates == ()


@pytest.mark.parametrize(("name", "words"), [("waypost.toml", "no certificate in PEM"), ("gone", "cannot be read")])
def test_a_file_without_a_certificate_changes_nothing(config: Path, name: str, words: str) -> None:
    user(config, "add", "boss", "--password-stdin", typed="a\n")
    done = user(config, "certificate", "boss", str(config.parent / name))
    assert done.exit_code == 1
    assert words in done.output


def test_a_removed_account_is_gone(config: Path) -> None:
    user(config, "add", "bob", "--password-stdin", typed="sesame\n")
    assert user(config, "remove", "bob").exit_code == 0
    assert user(config, "list").output == ""
    assert user(config, "remove", "bob").exit_code == 1


def test_without_a_terminal_or_a_users_file_the_remedy_is_told(config: Path) -> None:
    assert user(config, "add", "bob").exit_code == 2
    assert user(config, "list").exit_code == 1
    config.write_text(CONFIG.replace('users = "users"', ""))
    done = user(config, "list")
    assert done.exit_code == 1
    assert "[auth]" in done.output


def test_a_file_that_others_may_read_is_a_complaint_with_its_remedy(config: Path) -> None:
    user(config, "add", "bob", "--password-stdin", typed="sesame\n")
    (config.parent / "users").chmod(0o644)
    done = CliRunner().invoke(program(), ["check", "--config", str(config)])
    assert done.exit_code == 1
    assert "chmod 600" in done.output
    assert "line 9" in done.output.replace(":9", " line 9")

"""The commands that ask, against a running API and against a spool nobody serves."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from tests.admin.office import CONFIG, Office, office, served
from waypost.admin.http import AdminServer
from waypost.admin.program import commands
from waypost.net.stream import Endpoint
from waypost.queue.spool import file_system


def waypost(*arguments: str, typed: str = "") -> Result:
    """What the command line answers."""
    return CliRunner().invoke(commands(), arguments, input=typed)


class Service:
    """An API in a thread of its own: the commands under test run an event loop themselves."""

    def __init__(self, found: Office, server: AdminServer, loop: asyncio.AbstractEventLoop) -> None:
        self.office = found
        self.admin = f"--admin={server.endpoint}"
        self._loop = loop

    def does(self, what: Callable[[Office], Coroutine[Any, Any, Any]]) -> Any:
        return asyncio.run_coroutine_threadsafe(what(self.office), self._loop).result(10)

    def asked(self, *arguments: str, typed: str = "", code: int = 0) -> str:
        result = waypost(*arguments, self.admin, typed=typed)
        assert result.exit_code == code, result.output
        return result.stdout

    def asked_json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.asked(*arguments, "--json", code=code))


@contextmanager
def running() -> Iterator[Service]:
    services: list[Service] = []
    is_up = threading.Event()

    async def serve() -> None:
        stop = asyncio.Event()
        async with office() as found, served(found) as server:
            loop = asyncio.get_running_loop()
            services.append(Service(found, server, loop))
            stops.append(lambda: loop.call_soon_threadsafe(stop.set))
            is_up.set()
            await stop.wait()

    stops: list[Callable[[], object]] = []
    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    with structlog.testing.capture_logs():  # one process: the service's log would stand among the command's answers
        try:
            assert is_up.wait(10)
            yield services[0]
        finally:
            for stop in stops:
                stop()
            thread.join(10)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running() as found:
        found.does(lambda office: office.waiting("b@example.com"))
        found.does(lambda office: office.delivered("c@example.com"))
        found.does(lambda office: office.captured())
        yield found


def test_status_is_good_only_where_the_service_is_ready(service: Service) -> None:
    assert "1 message, 1 recipient, 0 of them held" in service.asked("status")
    service.office.reasons.append("the disk is full")
    assert "Not ready: the disk is full" in service.asked("status", code=1)
    assert service.asked_json("status", code=1)["not_ready"] == ["the disk is full"]
    service.office.reasons.clear()


def test_who_answers_is_said_on_standard_error(service: Service) -> None:
    result = waypost("status", service.admin)
    assert "the service at 127.0.0.1:" in result.stderr
    assert "answers" not in result.stdout


def test_the_queue_is_listed_with_why(service: Service) -> None:
    text = service.asked("queue", "list", "--domain", "example.com")
    assert "b@example.com" in text
    assert "450 4.2.1 later" in text
    assert "nothing of that kind" in service.asked("queue", "list", "--next-hop", "mx:elsewhere.example")
    assert service.asked_json("queue", "list")["entries"][0]["attempts"] == 1


def test_a_page_names_the_next() -> None:
    with running() as service:
        for _ in range(3):
            service.does(lambda office: office.waiting())
        text = service.asked("queue", "list", "--limit", "2")
        place = text.split("--after ")[1].split()[0]
        assert len(service.asked_json("queue", "list", "--after", place)["entries"]) == 1


def test_a_queue_is_read_at_any_width(service: Service) -> None:
    """It was a table of nine columns, which a terminal of eighty broke in the middle of every word."""
    lines = service.asked("queue", "list").splitlines()
    assert any(line.endswith("<b@example.com>") and " waiting until " in line for line in lines)
    assert any("450 4.2.1 later" in line for line in lines)


def test_a_message_that_is_done_is_shown_with_where_to_look(service: Service) -> None:
    id = service.asked_json("inbox", "list")["messages"][0]["id"]  # noqa: A001 - the field's own name
    assert f"waypost trace {id}" in service.asked("queue", "show", id)


def test_a_message_is_shown(service: Service) -> None:
    id = service.asked_json("queue", "list")["entries"][0]["id"]  # noqa: A001 - the field's own name
    text = service.asked("queue", "show", id)
    assert "from client.example.net [127.0.0.1] by ESMTP" in text
    assert "Subject: " in text


def test_a_life_is_told_with_its_dialogue_and_control_characters_harmless(service: Service) -> None:
    text = service.asked("trace", "b@example.com")
    assert "received  from client.example.net [127.0.0.1]" in text
    assert "S 220 inner \\x1b[31mESMTP" in text
    assert "\x1b" not in text
    assert "waiting, due" in text
    done = service.asked("trace", "c@example.com")
    assert "now  <c@example.com>  delivered to inner.example.com" in done


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("trace", "nobody@example.com"), 1),
        (("trace", "not-an-id"), 2),
        (("queue", "show", "0000000000000"), 1),
        (("queue", "delete", "--yes"), 2),
        (("queue", "hold"), 2),
        (("queue", "retry", "--id", "nonsense"), 2),
        (("queue", "retry", "--domain", "elsewhere.example"), 1),
        (("queue", "show", ""), 2),
        (("trace", ""), 2),
        (("resolve", ""), 2),
        (("inbox", "show", "1", "--raw", "--json"), 2),
        (("inbox", "show", "999"), 1),
        (("inbox", "show", "0"), 2),
        (("resolve", "nowhere.example"), 1),
        (("resolve", "-bad-"), 2),
        (("resolve", "example.com"), 0),
        (("resolve", "captured.example"), 0),
        (("explain", "b@example.com"), 0),
        (("explain", "b@example.com", "--client", "203.0.113.9"), 0),
        (("explain", "b@example.com", "nobody"), 1),
        (("explain", "b@example.com", "--client", "here"), 2),
    ],
)
def test_exit_codes_are_honest(service: Service, arguments: tuple[str, ...], code: int) -> None:
    service.asked(*arguments, code=code)


def test_a_failure_in_json_holds_error_and_remedy(service: Service) -> None:
    problem = service.asked_json("queue", "show", "0000000000000", code=1)
    assert "no message" in problem["error"]
    assert "waypost trace" in problem["remedy"]


def test_where_mail_goes_is_shown_with_who_is_left_out(service: Service) -> None:
    text = service.asked("resolve", "example.org")
    assert "1. mx1.example.org at [2001:db8::1]:25" in text
    assert "mx.example.net  192.0.2.9  left out: this service itself" in text


def test_the_inbox_is_read(service: Service) -> None:
    [message] = service.asked_json("inbox", "list")["messages"]
    assert "d@captured.example" in service.asked("inbox", "list")
    assert "Subject: Grüße" in service.asked("inbox", "show", str(message["number"]))
    assert service.asked("inbox", "show", str(message["number"]), "--raw").startswith("Subject: =?utf-8?q?")


def test_holding_releasing_retrying_and_deleting_say_how_many() -> None:
    with running() as service:
        service.does(lambda office: office.waiting("b@example.com,c@example.com"))
        assert "2 recipients are held" in service.asked("queue", "hold", "--all", "--reason", "moving house")
        assert "moving house" in service.asked("queue", "list")
        assert "1 recipient is released" in service.asked("queue", "release", "--address", "b@example.com")
        assert service.asked_json("queue", "delete", "--all", "--yes")["recipients"] == 2
        assert "nothing of that kind" in service.asked("queue", "list")


def test_deleting_for_a_program_asks_nothing_and_answers_in_json(service: Service) -> None:
    problem = service.asked_json("queue", "delete", "--all", code=2)
    assert "--yes" in problem["remedy"]
    assert "b@example.com" in service.asked("queue", "list")


def test_nobody_is_asked_whether_to_delete_nothing(service: Service) -> None:
    result = waypost("queue", "delete", "--domain", "elsewhere.example", service.admin)
    assert (result.exit_code, "?" in result.output) == (1, False)


def test_who_cannot_answer_deletes_nothing(service: Service) -> None:
    result = waypost("queue", "delete", "--all", service.admin)
    assert result.exit_code == 1
    assert "nothing was done" in result.stderr


def test_deleting_asks_first_and_no_means_no() -> None:
    with running() as service:
        service.does(lambda office: office.waiting())
        service.asked("queue", "delete", "--domain", "example.com", typed="n\n", code=1)
        assert "b@example.com" in service.asked("queue", "list")
        result = waypost("queue", "delete", "--domain", "example.com", service.admin, typed="y\n")
        assert "Delete 1 recipient?" in result.stderr
        assert result.exit_code == 0


def test_why_names_the_cause_the_time_and_the_remedy(service: Service) -> None:
    text = service.asked("queue", "why", "example.com")
    assert "<b@example.com>  retry time" in text
    assert "450 4.2.1 later" in text
    assert "    until " in text
    assert "to try it now: waypost queue retry --id" in text
    assert service.asked_json("queue", "why", "b@example.com")["recipients"][0]["limiting"] == "retry time"
    service.asked("queue", "why", "nobody@example.com", code=1)


def test_mail_is_bounced_found_in_the_bin_and_brought_back() -> None:
    with running() as service:
        service.does(lambda office: office.waiting())
        some = ("--domain", "example.com", "--state", "waiting", "--text", "LATER")
        assert "would be done to 1 recipient" in service.asked("queue", "bounce", *some, "--reason", "x", "--dry-run")
        service.asked("queue", "bounce", *some, "--yes", code=2)  # a bounce needs a reason
        assert "1 recipient is bounced" in service.asked("queue", "bounce", *some, "--reason", "gone", "--yes")
        assert "(command line): gone" in service.asked("queue", "bin")
        service.asked("queue", "restore", code=2)
        assert "1 recipient is back in the queue" in service.asked("queue", "restore", "--all")
        assert "The bin has nothing" in service.asked("queue", "bin")
        service.asked("queue", "restore", "--all", code=1)


def test_only_what_is_old_enough_is_meant() -> None:
    with running() as service:
        service.does(lambda office: office.waiting())
        service.asked("queue", "hold", "--older-than", "1h", code=1)
        service.asked("queue", "hold", "--older-than", "soon", code=2)
        service.asked("queue", "list", "--state", "asleep", code=2)


def test_mail_is_rerouted_by_a_next_hop_or_a_name() -> None:
    with running() as service:
        service.does(lambda office: office.waiting())
        assert "no route leads to" in waypost(
            "queue", "reroute", "--all", "--to", "mx:nowhere", service.admin
        ).stderr.replace("'", "")
        assert "1 recipient is rerouted" in service.asked("queue", "reroute", "--all", "--to", "capture:")
        assert "by capture:" in service.asked("queue", "list")


def test_a_next_hop_is_frozen_and_thawed() -> None:
    with running() as service:
        hop = "smtp://127.0.0.9:2599"
        assert "Nothing is frozen." in service.asked("queue", "frozen")
        assert f"{hop}  frozen by " in service.asked("queue", "freeze", hop, "--reason", "disk full")
        assert "disk full" in service.asked("queue", "frozen")
        service.asked("queue", "freeze", "nobody", code=2)
        service.asked("queue", "thaw", hop)
        service.asked("queue", "thaw", hop, code=1)


def test_much_is_changed_with_a_sign_of_how_far_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.admin.queueing.SLICE", 2)
    with running() as service:
        for _ in range(5):
            service.does(lambda office: office.waiting())
        assert "5 recipients are held" in service.asked("queue", "hold", "--all")


# ---- where no service runs
def configured(tmp_path: Path, *, admin: str = "127.0.0.1:1") -> str:
    file = tmp_path / "waypost.toml"
    file.write_text(CONFIG + f'[admin]\naddress = "{admin}"\n')
    return f"--config={file}"


def test_without_a_service_and_a_spool_both_are_named(tmp_path: Path) -> None:
    result = waypost("queue", "list", configured(tmp_path))
    assert result.exit_code == 1
    assert "no service is running at 127.0.0.1:1" in result.stderr
    assert f"waypost serve --config {tmp_path}" in result.stderr
    assert not (tmp_path / "spool").exists()


def test_without_a_service_the_spool_answers(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    result = waypost("queue", "list", configured(tmp_path))
    assert result.exit_code == 0, result.output
    assert "no service is running at 127.0.0.1:1; the spool at" in result.stderr
    assert "nothing of that kind" in result.stdout


def test_a_service_that_does_not_run_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    result = waypost("status", configured(tmp_path))
    assert result.exit_code == 1
    assert "Not ready: the service is not running" in result.stdout
    assert "up since" not in result.stdout
    assert "Listening" not in result.stdout
    assert not json.loads(waypost("status", configured(tmp_path), "--json").stdout)["service"]["is_running"]


def test_a_local_route_resolves_without_service_and_spool(tmp_path: Path) -> None:
    result = waypost("resolve", "[192.0.2.1]", configured(tmp_path))
    assert result.exit_code == 1
    assert "no route matches" in result.stdout


def test_an_address_where_nothing_listens_is_named_with_what_to_do() -> None:
    result = waypost("status", "--admin=127.0.0.1:1")
    assert result.exit_code == 1
    assert "start it with waypost serve" in result.stderr
    assert json.loads(waypost("status", "--admin=127.0.0.1:1", "--json").stdout)["remedy"]


def test_without_any_configuration_the_defaults_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("waypost.admin.terminal.DEFAULT_ADMIN", Endpoint("127.0.0.1", 1))
    result = waypost("resolve", "192.0.2.1")
    assert result.exit_code == 0
    assert "1. 192.0.2.1 at 192.0.2.1:25" in result.stdout
    assert "the defaults answer" in result.stderr


def test_where_a_service_was_named_no_defaults_answer_in_its_stead() -> None:
    result = waypost("resolve", "192.0.2.1", "--admin=127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (1, "")


def test_a_listener_that_is_no_api_is_not_said_to_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def speak() -> None:
            connections = [other.accept()[0] for _ in range(2)]  # the first only looks whether anybody is there
            for connection in connections:
                with connection:
                    connection.sendall(b"220 mx.example.net ESMTP\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        result = waypost("status", f"--admin=127.0.0.1:{other.getsockname()[1]}", "--json")
        thread.join(10)
    error = json.loads(result.stdout)["error"]
    assert "did not answer: 220 mx.example.net ESMTP" in error
    assert error.isprintable()


def test_without_any_configuration_the_default_address_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("waypost.admin.terminal.DEFAULT_ADMIN", Endpoint("127.0.0.1", 1))
    assert "no service is running at 127.0.0.1:1" in waypost("status").stderr


# ---- check
def test_a_good_configuration_shows_its_routes(tmp_path: Path) -> None:
    result = waypost("check", configured(tmp_path))
    assert result.exit_code == 0
    assert "is in order" in result.stdout
    assert "Route: example.com → smtp://127.0.0.9:2599" in result.stdout
    assert len(json.loads(waypost("check", configured(tmp_path), "--json").stdout)["routes"]) == 3


def test_all_complaints_come_at_once_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('[service]\nhostname = "x"\nspoon = 1\n[[route]]\ndomains = ["*"]\nto = "pigeon:"\n')
    result = waypost("check", f"--config={file}")
    assert result.exit_code == 1
    for place in (f"{file}:2: ", f"{file}:3: ", f"{file}:6: "):
        assert place in result.stderr
    complaints = json.loads(waypost("check", f"--config={file}", "--json").stdout)["complaints"]
    assert {2, 3, 6} <= {complaint["line"] for complaint in complaints}


def test_a_configuration_without_a_route_is_said_to_take_no_mail(tmp_path: Path) -> None:
    file = tmp_path / "waypost.toml"
    file.write_text(CONFIG.partition("[[route]]")[0])
    assert "every recipient will be refused" in waypost("check", f"--config={file}").stdout


@pytest.mark.skipif(file_system(Path("/dev/shm")) != "tmpfs", reason="needs a tmpfs on /dev/shm")
def test_a_spool_that_would_not_survive_a_reboot_is_a_complaint_before_the_start(tmp_path: Path) -> None:
    file = tmp_path / "waypost.toml"
    file.write_text(CONFIG.replace('spool = "spool"', 'spool = "/dev/shm/waypost"', 1))
    result = waypost("check", f"--config={file}")
    assert result.exit_code == 1
    assert "/dev/shm/waypost lies on tmpfs, which forgets what it holds" in result.stderr.replace("\n", " ")
    file.write_text(file.read_text().replace("[service]", "[service]\nallow_ephemeral = true", 1))
    assert waypost("check", f"--config={file}").exit_code == 0


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:-1", "nowhere:25", "8025", ""])
def test_an_admin_address_of_the_file_that_is_none_is_a_complaint_with_its_line(tmp_path: Path, address: str) -> None:
    """Whom to ask is read from the text alone; what that cannot tell, the whole judgement does."""
    config = tmp_path / "waypost.toml"
    config.write_text(f'[admin]\naddress = "{address}"\n')
    result = waypost("queue", "list", "--config", str(config))
    assert result.exit_code == 1
    assert "waypost.toml:2: admin.address" in result.output


def test_a_missing_configuration_is_a_sentence(tmp_path: Path) -> None:
    result = waypost("check", f"--config={tmp_path}/none.toml")
    assert result.exit_code == 1
    assert "cannot be read: No such file" in result.stderr


@pytest.mark.parametrize("wrong", ["127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999999999"])
def test_an_admin_address_that_is_none_is_a_usage_error(wrong: str) -> None:
    result = waypost("status", f"--admin={wrong}")
    assert result.exit_code == 2
    assert "write it as 127.0.0.1:2525" in result.output


def test_a_peer_is_watched_for_a_while_and_no_more() -> None:
    with running() as service:
        assert "Nobody's dialogues are logged." in service.asked("debug")
        assert "mx.example.net  logged until " in service.asked("debug", "MX.example.net", "on", "--minutes", "5")
        assert service.asked_json("debug")["watched"][0]["by"].endswith("(command line)")
        service.asked("debug", "mx.example.net", "maybe", code=2)
        assert "Nobody's" in service.asked("debug", "mx.example.net", "off")
        service.asked("debug", "mx.example.net", "off", code=1)


def test_only_what_is_in_quarantine_is_released_or_deleted_by_that_name() -> None:
    with running() as service:
        stays = service.does(lambda office: office.waiting("b@example.com"))
        service.does(lambda office: office.waiting("c@example.com"))
        for action in ("release", "delete"):
            result = waypost("quarantine", action, stays, service.admin)
            assert result.exit_code == 1
            assert f"{stays}: not in quarantine, and nothing was done" in " ".join(result.stderr.split())
        assert len(service.asked_json("queue", "list")["entries"]) == 2

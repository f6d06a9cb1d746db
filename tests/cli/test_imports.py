"""What a command imports: how fast it starts depends on nothing else, and unlike time that can be told for certain."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

#: Packages that take long, and that the service needs. (pydantic is typer's own, for the arguments of every command.)
SLOW = {"aiohttp", "asyncpg", "cryptography", "dns", "sqlite3", "structlog", "uvloop"}
#: Of our own, what a question to the running service is made of.
ASKING = {"admin", "mail", "net", "queue", "route", "smtp"}
RUN = "import sys; from waypost.__main__ import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"


class _Empty(BaseHTTPRequestHandler):
    """A service whose queue is empty, and that has nothing to tell."""

    def do_GET(self) -> None:
        body = b'{"entries": [], "more": false, "more_after": "", "traces": [], "before": "", "destinations": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:  # a test has nobody to read it
        pass


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A configuration whose service answers."""
    with HTTPServer(("127.0.0.1", 0), _Empty) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        file = tmp_path_factory.mktemp("imports") / "waypost.toml"
        file.write_text(f'[admin]\naddress = "127.0.0.1:{server.server_port}"\n')
        yield file
        server.shutdown()


def imported_by(*arguments: str) -> set[str]:
    """The modules that a process has imported when the command is done."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    return set(done.stderr.split("\n")[-2].split())


def of_ours(modules: set[str]) -> set[str]:
    """The folders of src/waypost."""
    return {name.split(".")[1] for name in modules if name.startswith("waypost.")}


def test_a_version_is_told_with_next_to_nothing_imported() -> None:
    modules = imported_by("--version")
    assert not modules & (SLOW | {"asyncio", "rich.console", "msgspec"})
    assert {name for name in modules if name.startswith("waypost.")} <= {
        "waypost.__main__",
        "waypost.admin",
        "waypost.admin.program",
        "waypost.smtp",  # to tell whether it is compiled
    }


@pytest.mark.parametrize("asked", ["queue list", "queue destinations", "trace x@example.com"])
def test_a_question_to_the_service_neither_imports_the_service_nor_judges_its_configuration(
    asked: str, config: Path
) -> None:
    modules = imported_by(*asked.split(), "--config", str(config), "--json")
    assert not modules & SLOW
    assert of_ours(modules) <= {"__main__", *ASKING}
    assert "waypost.admin.operations" not in modules

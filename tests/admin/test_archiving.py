"""`waypost queue export` and `import`, by the command line: from one spool to another, twice, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.cli.service import asked
from tests.contract.letters import accept, to
from waypost.queue.sqlite import SqliteStorage

CONFIG = """\
[service]
hostname = "mx.example.net"
spool = "{spool}"
postmaster = "postmaster@example.net"
allow_ephemeral = true
[[listener]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:1"
[[route]]
domains = ["example.org"]
to = "capture:"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two configurations, and a spool with two messages for the first."""
    for name in ("old", "new"):
        (tmp_path / f"{name}.toml").write_text(CONFIG.format(spool=name))
    asyncio.run(filled(tmp_path / "old"))
    return tmp_path


async def filled(spool: Path) -> None:
    storage = SqliteStorage(spool)
    await storage.open(owner="test:1")
    await accept(storage, 1, to("bert@example.org"), octets=b"Subject: one\r\n\r\n")
    await accept(storage, 2, to("carl@example.org"), to("dora@example.org"), octets=b"Subject: two\r\n\r\n" * 50000)
    await storage.close()


def run(place: Path, config: str, *words: str, code: int = 0) -> str:
    """What the command prints with one of the two configurations."""
    return asked(*words, "--config", str(place / config), code=code)


def test_what_waits_here_waits_there_and_a_second_import_changes_nothing(place: Path) -> None:
    archive = str(place / "queue.tar")
    assert "2 messages written to" in run(place, "old.toml", "queue", "export", archive)
    assert "2 messages put in, for 3 recipients." in run(place, "new.toml", "queue", "import", archive)
    again = run(place, "new.toml", "queue", "import", archive)
    assert "0 messages put in, for 0 recipients; 2 messages of it had been put in before." in again
    listed = [json.loads(run(place, name, "queue", "list", "--json"))["entries"] for name in ("old.toml", "new.toml")]
    assert listed[0] == listed[1]
    assert len(listed[0]) == 3


def test_an_archive_is_never_written_over_and_what_is_none_is_told(place: Path) -> None:
    taken = place / "queue.tar"
    taken.write_text("something of mine")
    assert (
        "is there already"
        in json.loads(run(place, "old.toml", "queue", "export", str(taken), "--json", code=1))["error"]
    )
    assert taken.read_text() == "something of mine"
    told = json.loads(run(place, "new.toml", "queue", "import", str(taken), "--json", code=1))
    assert "cannot be read as a tar archive" in told["error"]
    absent = json.loads(run(place, "new.toml", "queue", "import", str(place / "absent.tar"), "--json", code=1))
    assert "No such file" in absent["error"]


def test_a_spool_that_is_not_there_leaves_no_archive(place: Path) -> None:
    told = json.loads(run(place, "new.toml", "queue", "export", str(place / "queue.tar"), "--json", code=1))
    assert "cannot be written" in told["error"]
    assert not (place / "queue.tar").exists()

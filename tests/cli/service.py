"""The service as a process of its own, on free ports, with its spool in a directory of the test's."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from waypost.__main__ import program

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Process:
    """A running service, and where it listens."""

    child: subprocess.Popen[str]
    mail: str
    admin: str

    def stop(self) -> int:
        """The exit status after SIGTERM."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(30)


def run(*arguments: str, typed: str = "", directory: Path = Path(), code: int = 0) -> str:
    """What `waypost` prints on standard output."""
    done = subprocess.run(  # noqa: S603 - our own program
        [BIN / "waypost", *arguments],
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        timeout=60,
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def asked(*arguments: str, typed: str = "", code: int = 0) -> str:
    """As `run`, in this process, which spares a second of starting; for commands that ask or send."""
    done = CliRunner().invoke(program(), arguments, input=typed)
    assert done.exit_code == code, f"{arguments}: {done.exit_code}\n{done.output}"
    return done.stdout


def on_free_ports(text: str) -> str:
    """A configuration with every port of its listeners and its API chosen by the system."""
    return re.sub(r'^(address = ".*):\d+"', r'\1:0"', text, flags=re.MULTILINE)


@contextmanager
def serving(config: Path, *, log: int = subprocess.DEVNULL) -> Iterator[Process]:
    with subprocess.Popen(  # noqa: S603 - our own program
        [BIN / "waypost", "serve", "--config", config, "--json"],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as child:
        try:
            assert child.stdout is not None
            said = json.loads(child.stdout.readline())
            yield Process(child, said["listeners"][0]["address"], said["admin"])
        finally:
            child.kill()

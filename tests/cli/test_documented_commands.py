"""Every command in the tutorial is run as it stands there, against a service as `make run` starts it.

In a ```console block a line that begins with `$ ` is a command; each line after it is something that must be found in
what the command prints. What begins outside the program (make, cp, export) is left to the shell or to the Makefile.
"""

import re
import shutil
import subprocess
from pathlib import Path

from tests.cli.service import BIN, on_free_ports, serving
from waypost.__main__ import program
from waypost.admin.manpage import walk

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
#: Run by `make run` itself, which sets up a virtual environment: not here.
NOT_HERE = {"make run"}


def documented() -> list[tuple[str, list[str]]]:
    """Each command, with what it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", TUTORIAL.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return [(command, prints) for command, prints in found if command not in NOT_HERE]


def test_the_tutorial_holds_commands() -> None:
    assert len([command for command, _ in documented() if command.startswith("waypost ")]) >= 8


def test_no_text_of_ours_names_a_command_that_is_not_there() -> None:
    """The remedy for mail without a route was a command nobody had written, and so was the answer to "why"."""
    known = {command.name for command in walk(program())}
    groups = {name.rpartition(" ")[0] for name in known} - {"waypost"}
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    for text in texts:
        for name in re.findall(r"`(waypost [a-z]+(?: [a-z-]+)?)", text.read_text("utf-8")):
            command = name if name.rpartition(" ")[0] in groups else " ".join(name.split(" ")[:2])
            assert command in known | groups, f"{text}: {name}"


def test_the_tutorial_does_as_it_says(tmp_path: Path) -> None:
    # Without the spool that `make run` leaves there: the tutorial begins with an empty inbox.
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns(".run"))
    config = tmp_path / "examples" / "quickstart.toml"
    config.write_text(on_free_ports(config.read_text("utf-8")), "utf-8")
    with serving(config) as service:
        environment = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "WAYPOST_ADMIN": service.admin,
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
        }
        for command, prints in documented():
            at_its_port = command.replace("waypost send ", f"waypost send --server {service.mail} ")
            done = subprocess.run(  # noqa: S602 - the tutorial is read as a shell reads it
                at_its_port,
                shell=True,
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
            said = done.stdout + done.stderr
            assert done.returncode == 0, f"{command}\n{said}"
            for line in prints:
                assert line in said, f"{command} did not print {line!r} but\n{said}"
        assert service.stop() == 0

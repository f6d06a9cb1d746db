"""The Containerfile, as far as it can be judged without building it: it runs as nobody, and what it names is there."""

import json
import re
import shlex
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = [
    line.split(" ", 1)
    for line in (ROOT / "packaging/Containerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]


def said(word: str) -> list[str]:
    return [rest for first, rest in STEPS if first == word]


def test_it_runs_as_nobody_in_particular_and_the_spool_is_a_volume_of_his() -> None:
    (user,) = said("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    (volume,) = said("VOLUME")
    assert f"-m 0700 -o waypost -g waypost {volume}" in said("RUN")[0]
    assert f"--uid {user.partition(':')[0]} " in said("RUN")[0]


def test_what_it_installs_and_asks_are_extras_and_commands_of_ours() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"/source\[([a-z,]+)\]", said("RUN")[0])
    assert set(extras.split(",")) <= set(project["optional-dependencies"]) - {"pam"}  # it has no PAM to ask
    (entry,) = map(json.loads, said("ENTRYPOINT"))
    assert entry[0] in project["scripts"]
    (health,) = said("HEALTHCHECK")
    assert json.loads(health.partition("CMD ")[2])[:2] == ["waypost", "health"]


def test_the_guide_runs_what_it_exposes() -> None:
    guide = (ROOT / "docs/howto/container.md").read_text()
    (port,), (volume,) = said("EXPOSE"), said("VOLUME")
    words = [shlex.split(line) for line in guide.replace("\\\n", " ").splitlines() if line.startswith("podman run")]
    assert [f"25:{port}" in run and f"waypost-spool:{volume}" in run for run in words] == [True]
    assert f'address = "0.0.0.0:{port}"' in guide

"""Every input the fuzzer's targets keep, played again without a fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.targets import NAMES, ROOT, kept, target

INPUTS = [pytest.param(name, path, id=f"{name}-{path.name}") for name in NAMES for path in kept(name)]


@pytest.mark.parametrize(("name", "path"), INPUTS)
def test_a_kept_input_breaks_no_promise(name: str, path: Path) -> None:
    target(name)(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("octets", [b"", b"\0", b"\xff" * 300, bytes(range(256)) * 3, b"\r\n.\r\n" * 20])
def test_plain_octets_break_no_promise(name: str, octets: bytes) -> None:
    target(name)(octets)


def test_every_target_is_listed_and_keeps_a_small_corpus() -> None:
    assert {path.stem.removeprefix("fuzz_") for path in ROOT.glob("fuzz_*.py")} == set(NAMES)
    for name in NAMES:
        sizes = [path.stat().st_size for path in kept(name)]
        assert 0 < len(sizes) < 100, name
        assert sum(sizes) < 200_000, name

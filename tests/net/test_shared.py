"""Numbers that several processes keep together."""

from pathlib import Path

from waypost.net.shared import SharedNumbers


def workers(path: Path, count: int) -> list[SharedNumbers]:
    SharedNumbers.create(path, count)
    return [SharedNumbers.open(path, row) for row in range(count)]


def test_each_reads_what_all_have_counted(tmp_path: Path) -> None:
    one, two, three = workers(tmp_path / "numbers", 3)
    one.add("client 192.0.2.1", 2)
    two.add("client 192.0.2.1", 3)
    two.add("client 192.0.2.1", -1)

    assert three.total("client 192.0.2.1") == 4
    assert one.total("client 192.0.2.2") == 0


def test_what_each_has_is_told_by_row(tmp_path: Path) -> None:
    numbers = workers(tmp_path / "numbers", 4)
    numbers[3].set("wanting", 1)
    numbers[1].set("wanting", 7)

    assert numbers[0].of_all("wanting") == [0, 7, 0, 1]


def test_what_a_killed_process_had_is_gone_once_another_has_its_row(tmp_path: Path) -> None:
    one, killed = workers(tmp_path / "numbers", 2)
    killed.add("connections", 5)
    assert one.total("connections") == 5

    SharedNumbers.open(tmp_path / "numbers", 1)

    assert one.total("connections") == 0


def test_a_second_file_hashes_by_another_secret(tmp_path: Path) -> None:
    for name in ("a", "b"):
        SharedNumbers.create(tmp_path / name, 1)
    assert (tmp_path / "a").read_bytes()[:32] != (tmp_path / "b").read_bytes()[:32]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600

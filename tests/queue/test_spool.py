from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from waypost.queue.spool import Spool, _mounted_at, file_system
from waypost.queue.storage import StorageError

MOUNTS = r"""22 1 254:0 / / rw - ext4 /dev/vda rw
23 22 0:21 / /var/my\040spool rw shared:7 - tmpfs tmpfs rw
24 22 0:22 / /var/cover rw - tmpfs tmpfs rw
25 22 254:1 / /var/cover rw - xfs /dev/vdb rw
"""


def test_a_spool_is_made_for_us_alone(tmp_path: Path) -> None:
    spool = Spool.take(tmp_path / "var" / "spool", allow_ephemeral=False)
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((spool.path / "lock").stat().st_mode) == 0o600
    spool.leave()


def test_a_spool_and_what_was_made_above_it_survive_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink()))
    Spool.take(tmp_path / "var" / "spool", allow_ephemeral=False).leave()
    assert synced == [tmp_path, tmp_path / "var"]


def test_a_spool_in_use_names_its_process_and_is_free_again_when_that_leaves(tmp_path: Path) -> None:
    first = Spool.take(tmp_path, allow_ephemeral=False)
    with pytest.raises(StorageError, match=f"spool {tmp_path} is in use by process {os.getpid()}; "):
        Spool.take(tmp_path, allow_ephemeral=False)
    first.leave()
    Spool.take(tmp_path, allow_ephemeral=False).leave()


def test_a_process_that_is_gone_leaves_no_lock(tmp_path: Path) -> None:
    code = f"from waypost.queue.spool import *; import os; Spool.take(Path({str(tmp_path)!r}), allow_ephemeral=False)"
    subprocess.run([sys.executable, "-c", f"{code}; os._exit(1)"], check=False)  # noqa: S603 - our own interpreter
    Spool.take(tmp_path, allow_ephemeral=False).leave()


@pytest.mark.skipif(file_system(Path("/dev/shm")) != "tmpfs", reason="needs a tmpfs on /dev/shm")
def test_a_file_system_that_forgets_is_refused_unless_allowed() -> None:
    path = Path("/dev/shm") / f"spool-test-{os.getpid()}"
    try:
        with pytest.raises(
            StorageError, match=f"spool {path} lies on tmpfs, .*Set service.spool to a directory on a disk"
        ):
            Spool.take(path, allow_ephemeral=False)
        Spool.take(path, allow_ephemeral=True).leave()
    finally:
        (path / "lock").unlink(missing_ok=True)
        path.rmdir()


def test_a_path_that_is_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=f"spool {tmp_path}/file/spool cannot be used: Not a directory"):
        Spool.take(tmp_path / "file" / "spool", allow_ephemeral=False)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/spool", "ext4"),
        ("/var/my spool/x", "tmpfs"),
        ("/var/my", "ext4"),
        ("/var/covered", "ext4"),
        ("/var/cover/x", "xfs"),
    ],
)
def test_a_path_lies_on_its_deepest_mount_the_last_covering_the_others(path: str, kind: str) -> None:
    assert _mounted_at(Path(path), MOUNTS) == kind

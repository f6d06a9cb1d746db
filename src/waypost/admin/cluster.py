"""`waypost cluster` and `waypost spool`: commands over databases and directories themselves; no service is asked.

Not here: what they do (queue/postgres/cluster.py, queue/moving.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from waypost.admin.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, err, fail, show
from waypost.admin.words import counted, when
from waypost.net.clock import SystemClock
from waypost.queue.moving import MoveError, Tally, move
from waypost.queue.moving_sqlite import SqliteEnd
from waypost.queue.place import is_database
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import StorageError

if TYPE_CHECKING:
    from waypost.net.s3 import S3
    from waypost.queue.postgres.cluster import Status
    from waypost.queue.postgres.moving import PostgresEnd

T = TypeVar("T")
HostArgument = Annotated[
    str, typer.Argument(metavar="HOST", help="A host, as `cluster status` names it before the colon.")
]


def cluster_commands() -> typer.Typer:
    """`waypost cluster …`."""
    app = typer.Typer(help="The nodes that share a queue in PostgreSQL.", no_args_is_help=True)
    app.command("status")(status)
    app.command("drain")(drain)
    app.command("undrain")(undrain)
    return app


def spool_commands() -> typer.Typer:
    """`waypost spool …`."""
    app = typer.Typer(help="The places queues are kept in.", no_args_is_help=True)
    app.command("move")(move_spool)
    app.callback()(lambda: None)  # so that one command is a command, and not the whole of it
    return app


# ---- cluster
def status(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:  # noqa: FBT002 - a flag of the CLI
    """Show the nodes, what they have leased, and the replicas' lag.

    Example: waypost cluster status --config /etc/waypost/waypost.toml
    """
    dsn = _database(config, json=json)
    from waypost.queue.postgres import cluster  # noqa: PLC0415 - not without its extra

    show(_asked(cluster.status(dsn), json=json), _status, as_json_value=json)


def drain(host: HostArgument, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:  # noqa: FBT002
    """Let a host take no new work, also after a restart.

    What it accepts all the same, the others deliver.

    Example: waypost cluster drain mx1
    """
    dsn = _database(config, json=json)
    from waypost.queue.postgres import cluster  # noqa: PLC0415 - not without its extra

    alive = _asked(cluster.drain(dsn, host), json=json)
    text = f"{host} is drained: {_nodes(alive)}"
    show({"drained": host, "alive": alive}, lambda _: (Text(text),), as_json_value=json)


def undrain(host: HostArgument, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:  # noqa: FBT002
    """Let a host take work again.

    Example: waypost cluster undrain mx1
    """
    dsn = _database(config, json=json)
    from waypost.queue.postgres import cluster  # noqa: PLC0415 - not without its extra

    alive = _asked(cluster.undrain(dsn, host), json=json)
    text = f"{host} takes work again: {_nodes(alive)}"
    show({"undrained": host, "alive": alive}, lambda _: (Text(text),), as_json_value=json)


def _nodes(alive: int) -> str:
    """How many hear of it, and when."""
    return f"{counted(alive, 'node')} of it {'hears' if alive == 1 else 'hear'} so within seconds"


def _database(config: Path, *, json: bool) -> str:
    found = configured(config, as_json_value=json)
    if not found.database:
        fail(
            f"the queue is in {found.spool}, and this machine alone has it",
            'nodes share a queue where service.spool = "postgresql://…"',
            as_json_value=json,
        )
    return found.database


def _asked(question: Awaitable[T], *, json: bool) -> T:
    async def ask() -> T:
        return await question

    try:
        return asyncio.run(ask())
    except StorageError as error:
        fail(error.fault.detail, "see that the database runs, and that it lets us in", as_json_value=json)


def _status(answer: Status) -> Iterator[Text | Table]:
    counts = answer.counts
    yield Text(
        f"Queue: {counted(counts.messages, 'message')}, {counted(counts.recipients, 'recipient')}; "
        f"the oldest that is due waits {answer.overdue:.0f} s"
    )
    yield Text(f"Database: schema {answer.schema_version}; a 250 means: {answer.durability}")
    table = Table(box=None, pad_edge=False)
    for column in ("Node", "State", "Leases", "Version", "Since"):
        table.add_column(column)
    for node in answer.nodes:
        is_drained = node.owner.partition(":")[0] in answer.drained
        state = f"{node.state}, drained" if is_drained and node.state != "ended" else node.state
        table.add_row(node.owner, state, str(node.leases), node.version, when(node.opened_at))
    yield table
    for replica in answer.replicas:
        yield Text(f"Replica {replica.name}: {replica.state}, {replica.sync}, {replica.lag:.3f} s behind")
    for host in answer.drained:
        yield Text(f"Drained: {host}")


# ---- spool
def move_spool(
    source: Annotated[str, typer.Option("--from", help="A directory, or postgresql://….")],
    destination: Annotated[str, typer.Option("--to", help="A directory, or postgresql://….")],
    bodies: Annotated[
        str,
        typer.Option(
            "--bodies",
            metavar="STORE",
            help="The store of a database's large messages, s3://…; the environment has its key (AWS_…).",
        ),
    ] = "",
    json: JsonOption = False,  # noqa: FBT002 - a flag of the CLI
) -> None:
    """Move mail, history and captured copies from one spool to another.

    A directory must not be in use by a service; nodes on a database may be at work. Each message is compared by digest
    before it leaves its old place. Interrupted, it is ended by the same command: nothing is lost or sent twice.

    Example: waypost spool move --from /var/spool/waypost --to postgresql://waypost@db.example.net/waypost
    """
    _see_that_they_are_two(source, destination, json=json)
    try:
        tally = asyncio.run(_move(source, destination, _stores(bodies, json=json)))
    except (StorageError, MoveError) as error:
        why = error.fault.detail if isinstance(error, StorageError) else str(error)
        fail(why, "what was moved is moved; run the same command again for the rest", as_json_value=json)
    except ModuleNotFoundError as error:
        fail(
            f"a database needs {error.name}, which is not installed",
            "pip install 'waypost[postgres]'",
            as_json_value=json,
        )
    answer = {
        "messages": tally.messages,
        "queued": tally.unfinished,
        "recipients": tally.recipients,
        "octets": tally.octets,
        "found_there": tally.found,
        "digest": f"{tally.digest:064x}",
    }
    show(answer, lambda _: (_told(tally),), as_json_value=json)


def _see_that_they_are_two(source: str, destination: str, *, json: bool) -> None:
    """A mistyped directory must not be told as an empty spool, nor be made one."""
    if not is_database(source) and not (Path(source) / "queue.db").is_file():
        fail(f"there is no spool at {source}", "name the directory that service.spool names", as_json_value=json)
    if source == destination or Path(source).resolve() == Path(destination).resolve():
        fail(f"--from and --to are both {source}", "name the place it is to be at with --to", as_json_value=json)


def _stores(bodies: str, *, json: bool) -> list[S3]:
    """The store that was named."""
    if not bodies:
        return []
    from waypost.net.bucket import Keys, parse_bucket  # noqa: PLC0415 - few need it
    from waypost.net.s3 import S3  # noqa: PLC0415 - and it brings much with it

    try:
        keys = Keys(*(os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")))
        return [S3(parse_bucket(bodies), keys, SystemClock())]
    except KeyError as error:
        fail(f"the environment has no {error.args[0]}", "set the key that the store knows us by", as_json_value=json)
    except ValueError as error:
        problem, _, remedy = str(error).partition("; ")
        fail(problem, remedy, as_json_value=json)


async def _move(source: str, destination: str, stores: Sequence[S3]) -> Tally:
    total = Tally()
    async with spool_end(destination, stores) as there:
        for place in _places(source):
            async with spool_end(place, stores) as here:
                moved = await move(here, there, SystemClock(), _progress)
            total.include(moved)
    return total


def _places(source: str) -> list[str]:
    """A directory and its shards, each of which is a spool."""
    if is_database(source):
        return [source]
    shards = sorted(path.parent for path in Path(source).glob("shards/*/queue.db"))
    return [source, *map(str, shards)]


@asynccontextmanager
async def spool_end(place: str, stores: Sequence[S3] = ()) -> AsyncIterator[SqliteEnd | PostgresEnd]:
    """The spool at `place`, a directory or postgresql://…, to take messages from or to put them in.

    Raises: StorageError, where it cannot be opened, or somebody has it.
    """
    owner = f"command line:{os.getpid()}"
    if is_database(place):
        from waypost.queue.postgres.moving import PostgresEnd  # noqa: PLC0415 - not without its extra
        from waypost.queue.postgres.storage import PostgresStorage  # noqa: PLC0415 - likewise

        shared = PostgresStorage(place, SystemClock(), connections=4, stores=stores)
        await shared.open(owner=owner)
        try:
            yield PostgresEnd(shared, SystemClock())
            await shared.sweep()
        finally:
            await shared.close()
        return
    alone = SqliteStorage(Path(place), allow_ephemeral=True)
    await alone.open(owner=owner)
    try:
        yield SqliteEnd(alone)
    finally:
        await alone.close()


async def _progress(tally: Tally) -> None:
    console = err()
    if console.is_terminal:
        console.print(Text(f"{tally.messages} moved", style="dim"), end="\r")


def _told(tally: Tally) -> Text:
    found = f" ({tally.found} of them were there from an earlier move)" if tally.found else ""
    return Text(
        f"Moved {counted(tally.messages, 'message')}{found}: {counted(tally.unfinished, 'message')} in the queue with "
        f"{counted(tally.recipients, 'recipient')}, {tally.octets} octets, each compared; digest {tally.digest:064x}"
    )

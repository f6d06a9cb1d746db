"""Programs that take mail: real processes, and what their ends make of it."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.deliver.peer import BODY, lease, recipient
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.pipe import PERMANENT, BadArgumentError, Ended, PipeDelivery, filled, judge
from waypost.mail.attempt import Transcript
from waypost.mail.envelope import Octets
from waypost.mail.explain import describe, report_fields
from waypost.mail.outcome import Deferred, Delivered, LocalTrouble, Outcome, ProgramEnded, Rejected
from waypost.net.clock import SystemClock
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind
from waypost.route.route import Pipe
from waypost.smtp.path import DomainName, Mailbox

SH = "/bin/sh"
SOON = timedelta(seconds=60)


def shell(script: str, *arguments: str) -> Pipe:
    return Pipe((SH, "-c", script, "sh", *arguments), timeout=SOON)


def lives(pid: int) -> bool:
    """Whether a process runs; one that was killed and waits to be reaped does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def run(pipe: Pipe, *addresses: str, octets: Octets | None = None) -> list[Outcome]:
    """The outcomes of one attempt."""
    sent = lease([recipient(number, address) for number, address in enumerate(addresses or ("",))], octets=octets)
    fates = Fates(sent.recipients)
    clock = SystemClock()
    await PipeDelivery("mx.example.net", clock).deliver(sent, pipe, fates, Transcript(clock.monotonic()))
    return [outcome for _, outcome in fates.closed(deferred(LocalTrouble("untouched")))]


async def test_the_program_reads_the_message_and_knows_for_whom(tmp_path: Path) -> None:
    script = f'cat > {tmp_path}/"$1"; echo "$1|$2|$3|$4|$WAYPOST_RECIPIENT|$WAYPOST_SENDER|$WAYPOST_ID"'
    outcomes = await run(shell(script, "%u", "%d", "%s", "%i%%"), "a@example.com", "b@example.com")
    assert all(isinstance(outcome, Delivered) and outcome.final for outcome in outcomes)
    assert "a|example.com|alice@example.org|M000000000001%|a@example.com|alice@example.org" in describe(outcomes[0])
    stored = (tmp_path / "b").read_bytes()
    trace = b"Return-Path: <alice@example.org>\nDelivered-To: b@example.com\n"
    assert stored == trace + BODY.replace(b"\r\n", b"\n")
    assert (tmp_path / "b").stat().st_mode & 0o077 == 0


async def test_there_is_no_shell_but_the_one_that_is_named(tmp_path: Path) -> None:
    evil = f"$(touch${{IFS}}{tmp_path}/x)`id`;'"
    sent = replace(recipient(0), forward_path=Mailbox(evil, DomainName("example.com")))
    fates, clock = Fates([sent]), SystemClock()
    pipe = shell('printf %%s "$1" > "$2"', "%u", str(tmp_path / "out"))
    await PipeDelivery("mx.example.net", clock).deliver(lease([sent]), pipe, fates, Transcript(0.0))
    assert (tmp_path / "out").read_text() == evil
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("address", ["-rf@example.com", "--config=x@example.com"])
async def test_an_address_that_looks_like_an_option_is_refused(address: str, tmp_path: Path) -> None:
    (outcome,) = await run(shell("touch $0", "%r", str(tmp_path / "ran")), address)
    assert isinstance(outcome, Rejected)
    assert str(outcome.status) == "5.1.3"
    assert "option" in describe(outcome)
    (outcome,) = await run(shell("exit 0", "--for=%r"), address)
    assert isinstance(outcome, Delivered)


@given(
    st.text(st.characters(exclude_characters="\0"), max_size=20),
    st.sampled_from(["%r", "x%r", "--to=%r", "%r%r", "%%%r"]),
)
def test_nothing_put_in_is_read_again_nor_becomes_an_option(value: str, word: str) -> None:
    values = dict.fromkeys(("%r", "%u", "%d", "%s", "%i"), value)
    try:
        text = filled(word, values)
    except BadArgumentError:
        assert value.startswith("-")
    else:
        assert text == word.replace("%%", "\0").replace("%r", value).replace("\0", "%")
        assert word.startswith("-") or not text.startswith("-")


@pytest.mark.parametrize("status", range(1, 80))
def test_only_what_is_the_messages_own_fault_is_refused_for_good(status: int) -> None:
    outcome = judge(shell(""), Ended(status, "said"))
    assert isinstance(outcome, Rejected if status in {65, 67, 68, 69, 73, 76, 77} else Deferred)
    assert isinstance(outcome.cause, ProgramEnded)
    assert str(status) in describe(outcome)
    assert "said" in report_fields(outcome).diagnostic


async def test_a_real_exit_status_is_read_with_what_was_printed() -> None:
    (outcome,) = await run(shell("cat >/dev/null; echo no such person >&2; exit 67"))
    assert isinstance(outcome, Rejected)
    assert outcome.status == PERMANENT[67][1]
    assert "no such person" in describe(outcome)


async def test_a_program_killed_by_a_signal_makes_the_mail_wait() -> None:
    (outcome,) = await run(shell("kill -SEGV $$"))
    assert isinstance(outcome, Deferred)
    assert "SIGSEGV" in describe(outcome)


async def test_a_program_that_does_not_read_is_judged_by_its_status_alone() -> None:
    class Large:
        size = 5_000_000

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(50):
                yield b"x" * 100_000

    (outcome,) = await run(shell("exit 0"), octets=Large())
    assert isinstance(outcome, Delivered)


async def test_time_is_up_and_the_whole_session_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"trap '' TERM; sleep 600 & echo $! > {pid}; wait; sleep 600"
    (outcome,) = await run(replace(shell(script), timeout=timedelta(seconds=1.5)))
    assert isinstance(outcome, Deferred)
    assert "1.5 seconds were up" in describe(outcome)
    assert not lives(int(pid.read_text()))


async def test_output_without_end_is_drained_and_its_end_kept() -> None:
    (outcome,) = await run(shell("cat >/dev/null; yes | head -c 3000000; echo the last word; exit 75"))
    assert isinstance(outcome, Deferred)
    assert describe(outcome).endswith("the last word")
    assert len(describe(outcome)) < 500


async def test_the_program_gets_nothing_of_our_environment_and_no_more_memory_than_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WAYPOST_SECRET", "hush")
    (outcome,) = await run(shell("cat >/dev/null; env | grep -c hush; ulimit -v; ulimit -c; pwd"))
    assert "taken 0 524288 0 /" in describe(outcome)
    greedy = Pipe((sys.executable, "-c", "x = bytearray(10**9)"), timeout=SOON, memory=200 * 1024**2)
    (outcome,) = await run(greedy)
    assert isinstance(outcome, Deferred)
    assert "MemoryError" in describe(outcome)


async def test_no_new_privileges_are_to_be_had() -> None:
    (outcome,) = await run(shell("cat >/dev/null; grep NoNewPrivs /proc/self/status"))
    assert "NoNewPrivs: 1" in describe(outcome)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_it_runs_as_whom_the_route_says_and_in_no_other_group() -> None:
    nobody = pwd.getpwnam("nobody")
    (outcome,) = await run(replace(shell("cat >/dev/null; id -u; id -G"), user="nobody"))
    assert f"taken {nobody.pw_uid} {nobody.pw_gid}" in describe(outcome)


@pytest.mark.parametrize("user", ["no-such-user", "4294967296"])
async def test_a_user_that_is_not_there_makes_the_mail_wait(user: str) -> None:
    (outcome,) = await run(replace(shell("exit 0"), user=user))
    assert isinstance(outcome, Deferred)
    assert user in describe(outcome)


async def test_a_program_that_is_not_there_makes_the_mail_wait_and_is_named() -> None:
    (outcome,) = await run(Pipe(("/no/such/program",), timeout=SOON))
    assert isinstance(outcome, Deferred)
    assert "/no/such/program" in describe(outcome)


class Torn:
    size = 3_000_000

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        raise StorageError(StoreFault(StoreFaultKind.FAILED, "sector 7"))


async def test_an_unreadable_spool_makes_the_mail_wait() -> None:
    (outcome,) = await run(shell("cat > /dev/null"), octets=Torn())
    assert isinstance(outcome, Deferred)
    assert "sector 7" in describe(outcome)


async def test_an_attempt_that_is_cut_off_leaves_no_process(tmp_path: Path) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    task = asyncio.create_task(run(shell(f"echo $$ > {fifo}; sleep 600")))
    pid = int(await asyncio.to_thread(fifo.read_text))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lives(pid)

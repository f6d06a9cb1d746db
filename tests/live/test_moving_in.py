"""Coming from a Postfix that runs: its configuration, and the mail it could not deliver."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.live.postfix import postfix
from tests.live.process import free_port, must_run, run, until
from tests.live.service import waypost
from tests.live.sink import sink

pytestmark = pytest.mark.live


async def test_what_waits_in_postfix_is_delivered_by_us(place: Path, peer_place: Path) -> None:
    nowhere = free_port()
    async with postfix(peer_place, {"relayhost": f"[127.0.0.1]:{nowhere}"}) as old:
        for user in ("bob", "carl"):
            body = f"a line for {user}\n" + "x" * 5000
            await must_run(
                "swaks", "--server", f"127.0.0.1:{old.port}", "--from", "ann@far.example", "--silent", "2",
                "--to", f"{user}@example.test", "--body", body,
            )  # fmt: skip

        async def deferred() -> bool:
            return len([path for path in (peer_place / "queue/deferred").rglob("*") if path.is_file()]) == 2

        await until(deferred, "both wait", log=old.log)
        command = (sys.executable, "-m", "waypost", "import", "postfix-queue", "--from", peer_place / "queue")
        (place / "box").mkdir()
        refused = await run(*command, "--into", place / "box")
        assert (refused.code, "stop it first" in refused.errors) == (1, True)
    async with sink() as new:
        settings = f'[pickup]\ndirectory = "box"\n[[route]]\ndomains = ["*"]\nto = "smtp://127.0.0.1:{new.port}"\n'
        async with waypost(place, settings):
            moved = await must_run(*command, "--into", place / "box", "--delete")
            assert "2 messages, for 2 recipients" in moved.output
            await new.messages(2)
        assert sorted(message.forward_paths[0] for message in new.taken) == ["bob@example.test", "carl@example.test"]
        assert all(message.reverse_path == "ann@far.example" for message in new.taken)
        assert all(b"x" * 900 in message.octets for message in new.taken)
        assert not await deferred()
    translated = await run(
        sys.executable, "-m", "waypost", "import", "postfix", "--from", peer_place / "config", "--into", place / "out"
    )
    assert translated.code == 0, translated.output + translated.errors
    assert f'to = "smtp://127.0.0.1:{nowhere}"' in (place / "out/waypost.toml").read_text()

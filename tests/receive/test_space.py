from __future__ import annotations

from dataclasses import dataclass, replace

from tests.receive.house import begin, make_house


@dataclass
class Disk:
    is_low: bool
    gone: str = ""


async def test_where_the_disk_is_low_mail_is_refused_before_it_is_sent_and_taken_again_by_itself() -> None:
    disk = Disk(is_low=True)
    talk = await begin(replace(make_house(), space=disk))
    assert (await talk.say("EHLO us.example", "MAIL FROM:<alice@us.example>")).startswith("452 4.3.1")
    assert (await talk.say("RCPT TO:<bob@ours.example>")).startswith("503")
    disk.is_low = False
    assert (await talk.open_data()).startswith("354")
    assert (await talk.send(b"Subject: x\r\n\r\n.\r\n")).startswith("250")
    await talk.end()


async def test_what_was_begun_while_there_was_room_is_taken() -> None:
    disk = Disk(is_low=False)
    talk = await begin(replace(make_house(), space=disk))
    await talk.open_data()
    disk.is_low = True
    assert (await talk.send(b"Subject: x\r\n\r\n.\r\n")).startswith("250")
    await talk.end()


async def test_where_the_spool_is_gone_mail_is_refused_before_it_is_sent() -> None:
    """It was taken into a file that somebody had deleted, and was lost with the process."""
    talk = await begin(replace(make_house(), space=Disk(is_low=False, gone="queue.db was deleted")))
    assert (await talk.say("EHLO us.example", "MAIL FROM:<alice@us.example>")).startswith("451 4.3.0")
    await talk.end()

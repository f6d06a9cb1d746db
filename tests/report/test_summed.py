"""The metrics of several processes as those of one."""

from prometheus_client.parser import text_string_to_metric_families

from waypost.queue.memory import MemoryStorage
from waypost.report.metrics import Metrics
from waypost.report.summed import summed


async def told(messages: int) -> str:
    storage = MemoryStorage()
    await storage.open(owner="test")
    metrics = Metrics(storage)
    for _ in range(messages):
        metrics.received(100)
    metrics.days_authorised = lambda: [float(messages)]
    return (await metrics.collect()).decode()


async def test_counters_and_gauges_are_added_and_the_nearest_end_is_the_end() -> None:
    text = summed([await told(3), await told(4)]).decode()
    values = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}

    assert values["waypost_messages_received_total"] == 7
    assert values["waypost_octets_received_total"] == 700
    assert values["waypost_oauth_days"] == 3
    assert values["waypost_durability_info"] == 1


async def test_what_one_says_is_said_in_the_same_words() -> None:
    alone = await told(2)
    names = [line for line in alone.splitlines() if line.startswith("# HELP")]

    assert [line for line in summed([alone, alone]).decode().splitlines() if line.startswith("# HELP")] == names


def test_nobody_to_ask_is_no_metrics() -> None:
    assert summed([]) == b""

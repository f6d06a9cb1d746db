"""The metrics of several processes as those of one."""

from prometheus_client.parser import text_string_to_metric_families

from waypost.queue.memory import MemoryStorage
from waypost.report.metrics import Metrics
from waypost.report.summed import Gone, summed


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


def counts(*texts: str) -> tuple[float, float, float]:
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(summed(texts).decode())
        for sample in family.samples
    }
    names = ("messages_received_total", "octets_received_total", "delivery_seconds_count")
    return tuple(values[f"waypost_{name}"] for name in names)  # type: ignore[return-value]  # three


async def test_counters_go_on_where_a_process_is_begun_again() -> None:
    gone = Gone()
    first, other = await told(3), await told(4)
    assert counts(first, other, gone.text({0: first, 1: other})) == (7, 700, 0)
    assert counts(other, gone.text({0: "", 1: other})) == (7, 700, 0)  # it has died
    again = await told(1)
    for _ in range(2):
        assert counts(again, other, gone.text({0: again, 1: other})) == (8, 800, 0)
    once_more = await told(2)
    assert counts(once_more, other, gone.text({0: once_more, 1: other})) == (10, 1000, 0)


async def test_one_that_was_only_slow_to_answer_is_not_counted_twice() -> None:
    gone = Gone()
    slow = await told(3)
    gone.text({0: slow})
    gone.text({0: ""})
    assert counts(slow, gone.text({0: slow})) == (3, 300, 0)

"""What is answered to a body with a fault, and to a message that was not stored."""

from __future__ import annotations

import pytest

from tests.receive.house import FAILED, FULL
from waypost.queue.storage import StoreFault, StoreFaultKind
from waypost.receive.judge import judge_body, judge_fault
from waypost.smtp.body import BodyFault


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (BodyFault.BARE_NEWLINE, "550 5.6.0"),
        (BodyFault.NUL, "550 5.6.0"),
        (BodyFault.LINE_TOO_LONG, "550 5.6.0"),
        (BodyFault.TOO_LARGE, "552 5.3.4"),
    ],
)
def test_each_fault_of_a_body_has_its_reply(fault: BodyFault, answer: str) -> None:
    assert str(judge_body(fault)).startswith(answer)


def test_only_a_full_store_is_said_to_be_full() -> None:
    assert str(judge_fault(FULL)).startswith("452 4.3.1")
    assert str(judge_fault(FAILED)).startswith("451 4.3.0")
    assert str(judge_fault(StoreFault(StoreFaultKind.CLOSED, ""))).startswith("451 4.3.0")

"""The table of a server's commands: it is total, every state is reached, and a refusal says what is due."""

from __future__ import annotations

import pytest

from waypost.smtp.order import ORDER, ORDER_BEFORE_TLS, ORDER_UNDER_TLS, ORDER_WITHOUT_TLS, State
from waypost.smtp.reply import Reply


def test_the_table_of_order_is_total() -> None:
    within = {State.NEW, State.HANDSHAKE, State.TURNED, State.AUTH, State.BODY, State.CHUNK, State.CLOSED}
    assert ORDER.keys() == set(State) - within
    assert ORDER_WITHOUT_TLS.keys() == ORDER_UNDER_TLS.keys() == ORDER.keys()
    assert ORDER_BEFORE_TLS.keys() == ORDER.keys() - {State.MAIL, State.RCPT, State.CHUNKS}
    tables = (ORDER, ORDER_WITHOUT_TLS, ORDER_BEFORE_TLS, ORDER_UNDER_TLS)
    assert {len(row) for table in tables for row in table.values()} == {14}


def test_every_state_is_reached() -> None:
    reached = {State.CONNECTED}
    while True:
        further = {cell for state in reached & ORDER.keys() for cell in ORDER[state] if isinstance(cell, State)}
        if further <= reached:
            break
        reached |= further
    assert reached == set(State) - {State.NEW, State.TURNED_AWAY, State.CHUNKS}


def test_what_is_out_of_order_is_answered_503_with_what_is_due() -> None:
    refusals = {cell for row in ORDER.values() for cell in row if isinstance(cell, Reply)}
    assert {reply.code for reply in refusals} == {503}
    assert all(" say " in str(reply) for reply in refusals)


@pytest.mark.parametrize("state", list(ORDER))
def test_quit_is_taken_in_every_state(state: State) -> None:
    assert ORDER[state][-1] is State.CLOSED

"""The tables of a client's session: each is total, and leads where the standards have it lead."""

from __future__ import annotations

import pytest

from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.reply import Reply
from waypost.smtp.stage import (
    OPENING,
    OPENING_ESMTP,
    OPENING_HELO,
    OPENING_LMTP,
    TRANSACTION,
    Opening,
    Stage,
    Tls,
    Verdict,
    after,
    opening_table,
)


@pytest.mark.parametrize("table", [OPENING, OPENING_ESMTP, OPENING_HELO, OPENING_LMTP])
def test_an_opening_table_is_total_and_every_stage_of_it_is_reached(table: dict[Stage, tuple[Stage, ...]]) -> None:
    resting = {Stage.READY, Stage.QUIT, Stage.HANDSHAKE}
    wanted_by_the_route = {Stage.STARTTLS, Stage.XCLIENT, Stage.AUTH}
    reached = {Stage.GREETING} | wanted_by_the_route
    for _ in table:
        reached |= {cell for stage in reached & table.keys() for cell in table[stage]}
    assert reached - resting <= table.keys()
    unreached = table.keys() - reached
    assert unreached <= {Stage.EHLO, Stage.HELO}  # rows a table inherits and never enters
    assert {len(row) for row in table.values()} == {4}


def test_the_founding_cell() -> None:
    assert after(Stage.EHLO, Reply(502, ("what?",)), OPENING) is Stage.HELO
    assert after(Stage.EHLO, Reply(502, ("what?",)), OPENING_ESMTP) is Stage.QUIT


@pytest.mark.parametrize("stage", list(OPENING))
def test_421_ends_every_stage_of_the_opening(stage: Stage) -> None:
    assert after(stage, Reply(421, ("bye",)), OPENING) is Stage.QUIT


@pytest.mark.parametrize("tls", list(Tls))
@pytest.mark.parametrize("credentials", [NoCredentials(), Credentials("user", "sesame")])
def test_no_helo_where_the_route_needs_an_extension(tls: Tls, credentials: Credentials | NoCredentials) -> None:
    table = opening_table(Opening.EHLO_THEN_HELO, tls, credentials)
    needs = tls is Tls.REQUIRED or isinstance(credentials, Credentials)
    assert (Stage.HELO in table[Stage.EHLO]) is not needs
    assert (Stage.READY in table[Stage.STARTTLS]) is (tls is not Tls.REQUIRED)


def test_only_a_354_opens_a_body_and_only_2yz_delivers() -> None:
    assert {len(row) for row in TRANSACTION.values()} == {4}
    assert TRANSACTION.keys() == {Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT, Stage.RSET, Stage.ASKED}
    assert [row.index(Verdict.TAKEN) + 2 for row in TRANSACTION.values()] == [2, 2, 3, 2, 2, 2]

"""Whom an address stands for: each case as a configuration has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.maps.inline import InlineMap
from waypost.maps.lookup import Keys, Lookup, MapTrouble
from waypost.policy.domains import Accept, DomainPolicy, Domains, PassOn, Refuse
from waypost.policy.expansion import (
    MAX_RECIPIENTS,
    MISCONFIGURED,
    Expanded,
    Expander,
    Expansion,
    MovedAway,
    Undecided,
    Unknown,
)
from waypost.route.domain import Pattern
from waypost.smtp.path import DomainName, parse_mailbox

OURS = (Pattern.parse("ours.example"),)
POSTMASTER = parse_mailbox("admin@ours.example")


def listing(**entries: str) -> InlineMap:
    return InlineMap("m", {key.replace("_at_", "@"): value.split() for key, value in entries.items()}, "waypost.toml:9")


USERS = listing(alice="-", bob="-", admin="-")


class Broken:
    """A map in trouble."""

    name, keys = "broken", Keys.ALL

    def __init__(self, *, remote: bool = False) -> None:
        self.trouble = MapTrouble("map broken: no answer", remote=remote)

    async def look_up(self, key: str) -> Lookup:
        return self.trouble


def expander(*policies: DomainPolicy) -> Expander:
    return Expander(Domains(policies), postmaster=POSTMASTER)


async def expand(address: str, *policies: DomainPolicy) -> Expansion:
    return await expander(*policies).expand(parse_mailbox(address))


async def goals(address: str, *policies: DomainPolicy) -> list[str]:
    expansion = await expand(address, *policies)
    assert isinstance(expansion, Expanded), expansion
    return [str(goal.mailbox) for goal in expansion.goals]


def policy(**settings: object) -> DomainPolicy:
    return DomainPolicy(OURS, "waypost.toml:1", **settings)  # type: ignore[arg-type]  # each test names real ones


async def test_a_domain_that_is_not_ours_is_left_alone() -> None:
    found = await expand("x@other.example", policy())
    assert isinstance(found, Expanded)
    assert not found.is_ours
    assert await goals("x@other.example", policy()) == ["x@other.example"]


async def test_an_alias_becomes_all_it_stands_for_and_theirs() -> None:
    aliases = listing(team="alice bob friend@other.example", bob="robert")
    assert await goals("Team@ours.example", policy(aliases=(aliases,))) == [
        "alice@ours.example",
        "friend@other.example",
        "robert@ours.example",
    ]


async def test_an_alias_that_names_itself_keeps_a_copy() -> None:
    aliases = listing(alice="alice friend@other.example")
    assert await goals("alice@ours.example", policy(aliases=(aliases,))) == [
        "alice@ours.example",
        "friend@other.example",
    ]


async def test_who_is_reached_by_two_ways_is_one_recipient() -> None:
    aliases = listing(all="a b", a="bob", b="BOB")
    assert await goals("all@ours.example", policy(aliases=(aliases,))) == ["bob@ours.example"]


async def test_aliases_that_go_in_circles_are_the_administrators_to_mend() -> None:
    found = await expand("a@ours.example", policy(aliases=(listing(a="b", b="c", c="a"),)))
    assert isinstance(found, Undecided)
    assert "circles: " in found.detail
    assert "a@ours.example → b@ours.example" in found.detail
    assert str(found.status) == "4.3.5"


async def test_a_circle_that_is_entered_in_two_places_is_one_too_and_nobody_is_refused_for_it() -> None:
    found = await expand("g@ours.example", policy(aliases=(listing(g="a b", a="b", b="a"),), unknown=Refuse()))
    assert isinstance(found, Undecided)
    assert "circles" in found.detail


async def test_a_chain_without_end_is_cut() -> None:
    chain = {f"n{number}": f"n{number + 1}" for number in range(50)}
    found = await expand("n0@ours.example", policy(aliases=(listing(**chain),)))
    assert isinstance(found, Undecided)
    assert "more than 20 aliases" in found.detail


async def test_a_list_beyond_all_bounds_is_not_followed() -> None:
    aliases = listing(all=" ".join(f"u{number}" for number in range(MAX_RECIPIENTS + 1)))
    found = await expand("all@ours.example", policy(aliases=(aliases,)))
    assert isinstance(found, Undecided)
    assert "more than 1000 recipients" in found.detail


async def test_an_alias_to_a_program_is_refused_with_its_place() -> None:
    aliases = InlineMap("m", {"x": ["|/bin/sh"]}, "aliases:3")
    found = await expand("x@ours.example", policy(aliases=(aliases,)))
    assert isinstance(found, Undecided)
    assert "aliases:3" in found.detail


async def test_a_domain_is_rewritten_and_then_ruled_by_its_new_ones_settings() -> None:
    old = DomainPolicy((Pattern.parse("old.example"),), "waypost.toml:2", rewrite=DomainName("ours.example"))
    ours = policy(users=(USERS,), unknown=Refuse())
    assert await goals("alice@old.example", old, ours) == ["alice@ours.example"]
    assert isinstance(await expand("nobody@old.example", old, ours), Unknown)


async def test_who_is_listed_exists_and_nobody_else() -> None:
    ours = policy(users=(USERS,), unknown=Refuse())
    assert await goals("Alice@ours.example", ours) == ["Alice@ours.example"]
    assert isinstance(await expand("nobody@ours.example", ours), Unknown)


async def test_a_tag_is_looked_past_and_kept_or_taken_off() -> None:
    tagged = {"users": (USERS,), "unknown": Refuse(), "separators": "+-"}
    assert await goals("alice+news@ours.example", policy(**tagged)) == ["alice+news@ours.example"]
    assert await goals("alice-news+x@ours.example", policy(**tagged, keep_tag=False)) == ["alice@ours.example"]
    aliases = listing(sales="alice", **{"sales+de": "bob"})
    assert await goals("sales+fr@ours.example", policy(aliases=(aliases,), **tagged)) == ["alice@ours.example"]
    assert await goals("sales+de@ours.example", policy(aliases=(aliases,), **tagged)) == ["bob@ours.example"]
    assert isinstance(await expand("+x@ours.example", policy(**tagged)), Unknown)


async def test_a_catch_all_gets_what_is_listed_nowhere_and_only_that() -> None:
    caught = policy(users=(USERS,), catch_all=parse_mailbox("bob@ours.example"), unknown=Refuse())
    assert await goals("nobody@ours.example", caught) == ["bob@ours.example"]
    assert await goals("alice@ours.example", caught) == ["alice@ours.example"]
    in_a_map = policy(users=(USERS,), aliases=(listing(_at_ours_example="bob"),), unknown=Refuse())
    assert isinstance(await expand("nobody@ours.example", in_a_map), Unknown)
    in_a_map = policy(users=(USERS,), aliases=(InlineMap("m", {"@ours.example": ["bob"]}, "x"),), unknown=Refuse())
    assert await goals("nobody@ours.example", in_a_map) == ["bob@ours.example"]
    assert await goals("alice@ours.example", in_a_map) == ["alice@ours.example"]


async def test_a_domain_may_be_moved_by_one_entry() -> None:
    moved = policy(aliases=(InlineMap("m", {"@ours.example": ["@new.example"]}, "x"),), unknown=Refuse())
    assert await goals("alice@ours.example", moved) == ["alice@new.example"]


async def test_a_split_domain_passes_on_whom_it_does_not_know() -> None:
    split = policy(users=(USERS,), unknown=PassOn("old"))
    for address, route in (("alice@ours.example", ""), ("zoe@ours.example", "old")):
        found = await expand(address, split)
        assert isinstance(found, Expanded)
        assert [goal.route for goal in found.goals] == [route]


async def test_every_domain_of_ours_has_a_postmaster() -> None:
    users = listing(alice="-", admin="-")
    assert await goals("Postmaster@ours.example", policy(users=(users,), unknown=Refuse())) == ["admin@ours.example"]
    own = Expander(Domains([policy(unknown=Refuse())]), postmaster=parse_mailbox("postmaster@ours.example"))
    found = await own.expand(parse_mailbox("postmaster@ours.example"))
    assert isinstance(found, Expanded)


@pytest.mark.parametrize(("remote", "status"), [(True, "4.4.3"), (False, "4.3.0")])
@pytest.mark.parametrize("where", ["aliases", "users"])
async def test_a_map_in_trouble_decides_nothing(where: str, remote: bool, status: str) -> None:  # noqa: FBT001
    found = await expand("alice@ours.example", policy(**{where: (Broken(remote=remote),)}, unknown=Refuse()))
    assert isinstance(found, Undecided)
    assert (str(found.status), found.detail) == (status, "map broken: no answer")


async def test_each_step_names_what_decided_it() -> None:
    found = await expand("info@ours.example", policy(aliases=(listing(info="alice"),), users=(USERS,)))
    assert isinstance(found, Expanded)
    assert [(step.what, step.text, step.place) for step in found.steps] == [
        ("alias", "info@ours.example → alice@ours.example", "waypost.toml:9"),
        ("user", "alice@ours.example is listed", "waypost.toml:9"),
    ]


NAMES = st.sampled_from("abcdefg")


@given(st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=4)), NAMES)
async def test_any_web_of_aliases_comes_to_an_end(entries: dict[str, list[str]], name: str) -> None:
    aliases = InlineMap("m", entries, "x")
    found = await expand(f"{name}@ours.example", policy(aliases=(aliases,), unknown=Accept()))
    if isinstance(found, Expanded):
        names = [goal.mailbox.local_part for goal in found.goals]
        assert len(set(names)) == len(names)
        assert all(name not in entries or name in entries[name] for name in names)
    else:
        assert isinstance(found, Undecided)
        assert "circles" in found.detail


# ---- told of another address (RFC 5321 §3.4)
def elsewhere(value: str) -> InlineMap:
    return InlineMap("m", {"bob": [value], "staff": ["bob", "ann@there.example"]}, "waypost.toml:9")


async def test_who_is_forwarded_with_251_is_told_of_and_taken() -> None:
    found = await expand("bob@ours.example", policy(aliases=(elsewhere("251 robert@there.example"),)))
    assert isinstance(found, Expanded)
    assert [str(goal.mailbox) for goal in found.goals] == ["robert@there.example"]
    assert found.told == "robert@there.example"


async def test_who_has_moved_with_551_is_not_taken_but_behind_an_alias_he_is_followed() -> None:
    ours = policy(aliases=(elsewhere("551 robert@there.example"),))
    found = await expand("bob@ours.example", ours)
    assert isinstance(found, MovedAway)
    assert str(found.to) == "robert@there.example"
    assert await goals("staff@ours.example", ours) == ["ann@there.example", "robert@there.example"]


@pytest.mark.parametrize("value", ["251 ", "551 no address at all@", "251 |program"])
async def test_a_forward_that_names_no_address_is_a_mistake_of_ours(value: str) -> None:
    found = await expand("bob@ours.example", policy(aliases=(elsewhere(value),)))
    assert isinstance(found, Undecided)
    assert found.status == MISCONFIGURED

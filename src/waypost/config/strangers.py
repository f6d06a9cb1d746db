"""From `[[rate]]`, `[[dns_list]]`, `[screening]`, `[greylist]` to the gate strangers pass; what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from waypost.config.lines import Places
from waypost.config.model import ClientRate, DnsList, Greylist, Screening
from waypost.config.sections import Found, Placed, Reader
from waypost.net.clock import Clock
from waypost.policy.dns_lists import DnsList as List
from waypost.policy.dns_lists import DnsLists, ListsLog, Names, Subject
from waypost.policy.gate import Action, GateLog, Greylisting, Manners, Threshold, WatchedGate
from waypost.policy.greylist import Greylist as Listed
from waypost.policy.greylist import Terms
from waypost.policy.rates import By, Kind, Meter
from waypost.policy.rates import Rate as Measure
from waypost.queue.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Strangers:
    """The sections together."""

    screening: Screening = field(default_factory=Screening)
    greylist: Greylist = field(default_factory=Greylist)
    rates: tuple[Placed[ClientRate], ...] = ()
    lists: tuple[Placed[DnsList], ...] = ()

    @property
    def are_watched(self) -> bool:
        """Whether there is anything that strangers must pass."""
        return bool(self.rates or self.lists or self.greylist.mode == "all")

    def without_memory(self) -> Strangers:
        """What of them can be told without a running service: lists in DNS, but not who is known, or has sent much."""
        return Strangers(self.screening, lists=self.lists)


class Log(GateLog, ListsLog, Protocol):
    """Who hears of strangers and of lists."""


class Untold:
    """Hears of nothing: for who only asks."""

    def screened(self, host: str, action: str, words: str) -> None:
        pass

    def limited(self, host: str, account: str, rate: str, place: str) -> None:
        pass

    def shelf_trouble(self, doing: str, detail: str) -> None:
        pass

    def list_ignored(self, zone: str, why: str) -> None:
        pass

    def list_heeded(self, zone: str) -> None:
        pass


# ---- what is wrong with them
def check_strangers(
    screenings: Sequence[Screening],
    greylists: Sequence[Greylist],
    rates: Sequence[Found[ClientRate]],
    lists: Sequence[Found[DnsList]],
    reader: Reader,
) -> None:
    """No score without lists, no list without a score that matters, no suspects without a threshold."""
    for found in rates:
        _check_rate(found, reader)
    zones: dict[str, int] = {}
    for each in lists:
        line = reader.lines[each.path]
        if each.section.zone in zones:
            problem = f"{each.section.zone} is on line {zones[each.section.zone]} already"
            reader.complain((*each.path, "zone"), problem, "Leave one of the two")
        zones.setdefault(each.section.zone, line)
    for section in screenings:
        _check_screening(section, greylists, lists, reader)


def _check_rate(found: Found[ClientRate], reader: Reader) -> None:
    rate = found.section
    if rate.of == "connections" and rate.by == "account":
        reader.complain((*found.path, "by"), "nobody has logged in when he connects", 'Write by = "client"')
    if rate.of == "connections" and rate.kept_in == "spool":
        problem = "a write to the disk for each connection would help an attacker"
        reader.complain((*found.path, "kept_in"), problem, "Leave it out")


def _check_screening(
    section: Screening, greylists: Sequence[Greylist], lists: Sequence[Found[DnsList]], reader: Reader
) -> None:
    used = [key for key in ("tag", "greylist", "quarantine", "refuse") if getattr(section, key)]
    for key in used if not lists and not reader.document.get("dns_list") else ():
        reader.complain(("screening", key), "no score comes to be without lists", "Write a [[dns_list]]")
    mode = next((greylist.mode for greylist in greylists), "off")
    if section.greylist and mode == "off":
        reader.complain(
            ("screening", "greylist"), "greylisting is off", 'Write [greylist], and below it mode = "suspects"'
        )
    if mode == "suspects" and not section.greylist:
        reader.complain(
            ("greylist", "mode"), "nobody is a suspect without a score", "Write greylist = 3 in [screening]"
        )
    if lists and not used and mode != "all":
        path = (*lists[0].path, "zone")
        reader.complain(path, "nothing follows from any score", "Write refuse = 5, or another, in [screening]")


# ---- what they make
def build_gate(strangers: Strangers, places: Places, names: Names, clock: Clock, shelf: Shelf, log: Log) -> WatchedGate:
    """The gate of the sections; they have been checked."""
    screening, terms = strangers.screening, strangers.greylist
    return WatchedGate(
        manners(strangers, places),
        Meter([_rate(each) for each in strangers.rates], clock, shelf),
        DnsLists([_list(each) for each in strangers.lists], names, clock, log, timeout=screening.timeout),
        Listed(Terms(terms.delay, terms.window, terms.keep, terms.networks_after), shelf),
        clock,
        log,
    )


def manners(strangers: Strangers, places: Places) -> Manners:
    """What follows from what."""
    screening = strangers.screening
    thresholds = [
        Threshold(action, getattr(screening, action.value), places.of("screening", action.value))
        for action in Action
        if action is not Action.PASS
    ]
    return Manners(
        tuple(thresholds),
        Greylisting(strangers.greylist.mode),
        screening.exempt,
        places.of("greylist", "mode"),
    )


def _rate(placed: Placed[ClientRate]) -> Measure:
    rate = placed.section
    return Measure(
        Kind(rate.of),
        By(rate.by),
        rate.limit,
        rate.per,
        rate.networks,
        rate.exempt,
        in_spool=rate.kept_in == "spool",
        place=placed.place,
    )


def _list(placed: Placed[DnsList]) -> List:
    section = placed.section
    return List(section.zone, Subject(section.of), section.score, section.answers, placed.place)

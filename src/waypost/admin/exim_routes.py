"""Exim's routers as domains and routes of ours (specification, chapters 15 to 22).

Exim asks its routers in order for each address; here the most specific domain decides. So each pattern that any router
names is led through all of them once, and what becomes of it is written down as its route; what would become the
same by a wider pattern is not. Not here: what a transport is (exim_transports.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from waypost.admin.exim_lists import ALL, Items, Source, covers, found_by, is_in, patterns_of
from waypost.admin.exim_rules import map_text
from waypost.admin.exim_text import Driver, Lookup, NotPlainError, Option, items, lookup_of, table
from waypost.admin.exim_transports import Transports, Way, checked
from waypost.admin.translation import file_name, names, section
from waypost.policy.access import parse_sender

#: A key of an alias file that a route can be for.
_USER: Final = re.compile(r"[a-z0-9_=+-][a-z0-9_.=+-]{0,60}(@[a-z0-9.-]+)?")
#: A key of an alias file that a map of ours can have.
_KEY: Final = re.compile(r"[^\s:;,\"<>()@\\]+(@[a-z0-9.-]+)?|\*@[a-z0-9.-]+")
_NOWHERE: Final = Way(("reject:550 5.1.1 Unrouteable address",))
_OF_NO_MEANING: Final = names(
    """
    driver debug_print same_domain_copy_routing verify expn allow_fail allow_defer check_ancestor file_transport
    pipe_transport reply_transport directory_transport cannot_route_message ignore_target_hosts host_find_failed self
    verify_sender verify_recipient user group forbid_file forbid_pipe forbid_filter_reply forbid_smtp_code one_time
    skip_syntax_errors syntax_errors_to syntax_errors_text allow_filter retry_use_local_part qualify_preserve_domain
    mx_domains widen_domains qualify_single search_parents dnssec_request_domains log_as_local initgroups
    local_part_suffix_optional repeat_use hosts_randomize include_directory
    """
)
_READ: Final = names(
    """
    domains data transport route_list route_data more file check_local_user local_part_suffix fallback_hosts local_parts
    senders
    """
)
#: What makes a router one for some mail only: such a one is not written, and mail goes as if it were not there.
_HINTS: Final = {
    "condition": "no router asks a condition here; a hook may (docs/howto/hooks.md)",
    "local_part_prefix": "a map in `aliases` of the [[domain]]",
    "require_files": "no router asks for files here",
    "unseen": "a [[copy]], or a hook",
    "headers_add": "a hook may do it (docs/howto/hooks.md)",
    "headers_remove": "a hook may do it (docs/howto/hooks.md)",
    "address_data": "no router hands on data here",
    "errors_to": "[[route]] rewrite_sender",
    "redirect_router": "routers have no names here; write the [[route]] it means",
}
_MANNERS: Final = names("headers_add headers_remove errors_to address_data dnssec_require_domains")


@dataclass(frozen=True, slots=True)
class Stage:
    """One router: for which domains, whom it looks up, and where it leads; it declines what no way is for."""

    domains: Items
    aliases: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    subaddress: str = ""
    catch_all: str = ""
    #: Local-parts, or addresses, of alias files that lead to no address: `:blackhole:`, `:fail:`.
    ends: tuple[tuple[str, Way], ...] = ()
    ways: tuple[tuple[Items, Way], ...] = ()
    #: Whose mail alone it is for; none: everybody's.
    senders: tuple[str, ...] = ()
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a domain, and whose mail for it is taken."""

    aliases: tuple[str, ...]
    users: tuple[str, ...]
    subaddress: str
    catch_all: str
    ends: tuple[tuple[str, Way], ...]
    #: The ways of some senders' mail, before that of all others.
    of_senders: tuple[tuple[tuple[str, ...], Way], ...]
    way: Way
    is_open: bool


def outcome(stages: list[Stage], pattern: str, open_to_all: Items) -> Outcome:
    """A pattern, led through all routers."""
    found = Outcome((), (), "", "", (), (), _NOWHERE, is_in(open_to_all, pattern))
    for stage in stages:
        if not is_in(stage.domains, pattern):
            continue
        if stage.senders:
            first = [way for listed, way in stage.ways if is_in(listed, pattern)][:1]
            found = replace(found, of_senders=(*found.of_senders, *((stage.senders, way) for way in first)))
            continue
        found = replace(
            found,
            aliases=tuple(dict.fromkeys((*found.aliases, *stage.aliases))),
            users=tuple(dict.fromkeys((*found.users, *stage.users))),
            subaddress=found.subaddress or stage.subaddress,
            catch_all=found.catch_all or stage.catch_all,
            ends=(*found.ends, *stage.ends),
        )
        for listed, way in stage.ways:
            if is_in(listed, pattern):
                return replace(found, way=way)
        if stage.is_last:
            break
    return found


class Routers:
    """The routers of one configuration."""

    def __init__(self, source: Source, open_to_all: Items) -> None:
        self._source, self._open = source, open_to_all
        self._transports = Transports(source)
        self._ends: set[str] = set()

    def write(self) -> None:
        """All domains and routes."""
        stages = [stage for router in self._source.found.routers for stage in self._stage(router)]
        named = {"*": None} | dict.fromkeys(pattern for pattern in self._named(stages) if pattern != "*")
        becomes = {pattern: outcome(stages, pattern, self._open) for pattern in named}
        if becomes["*"].is_open:
            text = "domains whose mail is taken from anyone: *"
            self._source.sheet.leave(text, "that is an open relay; from relay.networks alone now")
            becomes["*"] = replace(becomes["*"], is_open=False)
        groups: dict[Outcome, list[str]] = {}
        for pattern, one in becomes.items():
            if pattern == "*" or one != becomes[_wider(pattern, list(becomes))]:
                groups.setdefault(one, []).append(pattern)
        for one, patterns in groups.items():
            self._write([pattern for pattern in patterns if pattern != "*"], one)
        self._write_rest(becomes["*"])

    def _named(self, stages: list[Stage]) -> Iterator[str]:
        yield from patterns_of(self._open)
        for stage in stages:
            yield from patterns_of(stage.domains)
            for listed, _ in stage.ways:
                yield from patterns_of(listed)

    def _write(self, patterns: list[str], one: Outcome) -> None:
        if not patterns:
            return
        if one.aliases or one.users or one.catch_all or one.subaddress:
            self._source.sheet.add(
                "[[domain]]",
                names=patterns,
                aliases=one.aliases,
                users=one.users,
                catch_all=one.catch_all,
                subaddress=one.subaddress,
            )
        for address, way in self._ended(patterns, one):
            self._source.sheet.routes.append(section("[[route]]", name=address, addresses=[address], to=way.target()))
        accept = "anyone" if one.is_open else "relay"
        self._write_senders(patterns, one, accept_from=accept)
        self._source.sheet.route(patterns, one.way.target(), accept_from=accept, **dict(one.way.settings))

    def _write_senders(self, patterns: list[str], one: Outcome, **more: str) -> None:
        """A route for each group of senders; of two for the same sender the first."""
        seen: set[str] = set()
        for senders, way in one.of_senders:
            own = [sender for sender in senders if sender not in seen]
            seen.update(own)
            if own:
                settings = {"name": f"{patterns[0]} of {own[0]}", "senders": own, **more, **dict(way.settings)}
                self._source.sheet.route(patterns, way.target(), **settings)

    def _ended(self, patterns: list[str], one: Outcome) -> Iterator[tuple[str, Way]]:
        """Addresses of these domains that lead nowhere, each once."""
        domains = [pattern[1:] for pattern in patterns if pattern.startswith("=")]
        for key, way in one.ends:
            local_part, at, own = key.partition("@")
            for address in [f"{local_part}@{domain}" for domain in domains if not at or own == domain]:
                if address not in self._ends:
                    self._ends.add(address)
                    yield address, way

    def _write_rest(self, one: Outcome) -> None:
        if one.aliases or one.users or one.catch_all:
            text = f"routers without `domains` ({', '.join((*one.aliases, *one.users, one.catch_all))})"
            self._source.sheet.leave(text, "they are asked for the domains above alone; a [[domain]] for others")
        self._write_senders(["*"], one)
        if one.way != _NOWHERE:
            self._source.sheet.route(["*"], one.way.target(), **dict(one.way.settings))

    # ---- one router
    def _stage(self, router: Driver) -> Iterator[Stage]:
        odd = [name for name in router.options if name not in _READ | _OF_NO_MEANING]
        for name in odd:
            self._source.leave(router.options[name], _HINTS.get(name, "nothing here is called so"), f"{router.name}: ")
        try:
            yield from self._judged(router, is_for_all=all(name in _MANNERS for name in odd))
        except NotPlainError as error:
            text = f"{router.place}: router {router.name}"
            self._source.sheet.leave(text, f"{error}; not written: write a [[route]] by hand")

    def _judged(self, router: Driver, *, is_for_all: bool) -> Iterator[Stage]:
        driver = router.get("driver")
        if not is_for_all or ("local_parts" in router.options and driver != "accept"):
            raise NotPlainError("it is for some mail alone")
        stage = self._base(router)
        match driver:
            case "accept":
                yield replace(stage, ways=((ALL, self._accepted(router)),), users=self._users(router))
            case "dnslookup":
                way = self._with_fallback(router, self._transports.by_mx(self._transport(router)))
                yield replace(stage, ways=((ALL, way),))
            case "manualroute":
                yield replace(stage, ways=tuple(self._rules(router)))
            case "redirect":
                yield from self._redirected(router, stage)
            case "ipliteral":
                pass  # address literals go to their address here too
            case _:
                raise NotPlainError(f"there is no router like {driver!r} here")

    def _base(self, router: Driver) -> Stage:
        domains: Items = ALL
        if "domains" in router.options:
            option = router.options["domains"]
            if router.get("driver") == "manualroute" and "lookup" in option.value + router.get("route_data"):
                domains = self._domains_of_lookup(option)
            else:
                domains = self._source.domains(option)
        senders, is_last = self._senders(router), router.get("more") == "false"
        return Stage(domains, subaddress=self._subaddress(router), senders=senders, is_last=is_last)

    def _senders(self, router: Driver) -> tuple[str, ...]:
        """Addresses and domains of a list of senders, as a route has them. Raises: NotPlainError."""
        if "senders" not in router.options:
            return ()
        words = items(self._source.plain(router.get("senders")))
        found = [f"={word.removeprefix('*@')}" if "@" not in word.removeprefix("*@") else word for word in words]
        for word in found:
            if re.fullmatch(r"=[A-Za-z0-9.-]*[A-Za-z0-9]|[A-Za-z0-9_.+=-]+@[A-Za-z0-9.-]+", word) is None:
                raise NotPlainError(f"its senders have {word.removeprefix('=')!r}")
            try:
                parse_sender(word)
            except ValueError as error:
                raise NotPlainError(f"its senders: {error}") from error
        if not found or router.get("driver") == "redirect":
            raise NotPlainError("it is for some senders alone")
        return tuple(found)

    def _domains_of_lookup(self, option: Option) -> Items:
        """A list that is, as Debian has it, the keys of the file that route_data looks in: those alone anyway."""
        try:
            return self._source.domains(option)
        except NotPlainError:
            return ALL

    def _subaddress(self, router: Driver) -> str:
        words = items(router.get("local_part_suffix"))
        if not words:
            return ""
        if not router.has("local_part_suffix_optional") or not all(re.fullmatch(r"[^\w\s*]\*", word) for word in words):
            raise NotPlainError(f"it is for local-parts that end in {' or '.join(words)}")
        return "".join(word[0] for word in words)

    def _transport(self, router: Driver) -> Driver:
        return self._transports.named(router.options.get("transport", Option(router.place, "transport", "")))

    def _users(self, router: Driver) -> tuple[str, ...]:
        """Its local_parts as a map, where they are a plain list and no router comes after it that takes others."""
        option = router.options.get("local_parts", Option("", "", ""))
        words = items(option.value)
        if not words:
            return ()
        after = self._source.found.routers[self._source.found.routers.index(router) + 1 :]
        takes_more = any(one.get("driver") in {"accept", "manualroute"} for one in after)
        if takes_more or not all(_KEY.fullmatch(word) and word != "*" and word[0] not in "!^+*" for word in words):
            self._source.leave(option, "a [[map]] in `users` of the [[domain]]", f"{router.name}: ")
            return ()
        return (self._source.sheet.map(f"{file_name(router.name)}-users", map_text((word, word) for word in words)),)

    def _accepted(self, router: Driver) -> Way:
        if router.has("check_local_user"):
            remedy = "who has a mailbox is not looked up here; name a [[map]] in `users` of the [[domain]]"
            self._source.leave(router.options["check_local_user"], remedy, f"{router.name}: ")
        return self._transports.local(self._transport(router))

    # ---- manualroute
    def _rules(self, router: Driver) -> Iterator[tuple[Items, Way]]:
        if "route_data" in router.options:
            yield from self._looked_up(router, router.options["route_data"])
        if "route_list" not in router.options:
            return
        option = router.options["route_list"]
        text = option.value if option.value.startswith("<") else f"<;{option.value}"
        for rule in items(text):
            found = re.fullmatch(r'("[^"]*"|\S+)(?:\s+("[^"]*"|\S+))?\s*(.*)', rule, re.DOTALL)
            if found is None:
                raise NotPlainError(f"{rule!r} is no rule of a route_list")
            try:
                listed = self._source.domains(replace(option, value=f"<\x01{found[1].strip(chr(34))}"))
                yield listed, self._hop(router, found[2] or "", found[3])
            except NotPlainError as error:
                shown = f"{option.place}: {router.name}: {' '.join(rule.split())}"
                self._source.sheet.leave(shown, f"{error}; write a [[route]] by hand")

    def _looked_up(self, router: Driver, option: Option) -> Iterator[tuple[Items, Way]]:
        if "{lookup" not in option.value:
            hosts, _, options = option.value.strip().partition(" ")
            yield ALL, self._hop(router, hosts, options)
            return
        found = lookup_of(option.value)
        if found.key != "$domain" or "lsearch" not in found.kind:
            raise NotPlainError(f"{option.value!r} is no lookup of the domain in a text")
        for number, key, value in table(self._source.text_of(found.file, option.place)):
            place, names_of = f"{found.file}:{number}", found_by(found.kind, key)
            hosts, _, options = value.partition(" ")
            try:
                listed = self._source.domains(Option(place, "domain", f"<\x01{chr(1).join(names_of)}"))
                yield listed, self._hop(router, hosts, options)
            except NotPlainError as error:
                self._source.sheet.leave(f"{place}: {key}: {value}", f"{error}; write a [[route]] by hand")

    def _hop(self, router: Driver, hosts: str, options: str) -> Way:
        transport = router.options.get("transport", Option(router.place, "transport", ""))
        for word in options.split():
            if word in self._source.found.transports:
                transport = replace(transport, value=word)
        randomize = "randomize" in options.split() or router.has("hosts_randomize")
        way = self._transports.to_hosts(self._transports.named(transport), hosts.strip('"'), randomize=randomize)
        return self._with_fallback(router, way)

    def _with_fallback(self, router: Driver, way: Way) -> Way:
        hosts = router.get("fallback_hosts")
        if not hosts:
            return way
        others = tuple(one for one in way.settings if one[0] != "fallback")
        return replace(way, settings=(*others, ("fallback", self._transports.servers(hosts))))

    # ---- redirect
    def _redirected(self, router: Driver, stage: Stage) -> Iterator[Stage]:
        data = router.get("data")
        special = re.match(r":(fail|defer|blackhole|unknown):\s*(.*)", data, re.DOTALL)
        if "file" in router.options:
            self._source.leave(router.options["file"], "users' own files are not read; `aliases`", f"{router.name}: ")
        elif special is not None:
            yield replace(stage, ways=((ALL, _special(special[1], special[2])),))
        elif "lookup" in data:
            yield self._aliases(router, stage, lookup_of(data))
        else:
            yield self._moved(router, stage, data)

    def _moved(self, router: Driver, stage: Stage, data: str) -> Stage:
        same_user = re.fullmatch(r"\$\{?local_part(?:_data)?\}?@(\S+)", data.strip())
        address = self._source.plain(f"@{same_user[1]}" if same_user is not None else data)
        if re.fullmatch(r"[^\s@,|/:\"<>$]*@[A-Za-z0-9.-]+", address) is None:
            raise NotPlainError(f"{data!r} is no address")
        if same_user is None:
            if address.startswith("@"):
                raise NotPlainError(f"{data!r} is no address")
            return replace(stage, catch_all=address, ways=((ALL, _NOWHERE),))
        text = map_text((f"@{name}", address) for name in self._names_of(stage))
        return replace(stage, aliases=(self._source.sheet.map(file_name(router.name), text),) if text else ())

    def _aliases(self, router: Driver, stage: Stage, found: Lookup) -> Stage:
        """A lookup in alias files as a map; one file for each domain where its name has $domain in it."""
        if found.key not in {"$local_part", "$local_part@$domain"} or "lsearch" not in found.kind:
            raise NotPlainError(f"its lookup is of {found.key} by {found.kind}; write a [[map]]")
        domains, place = self._names_of(stage), router.options["data"].place
        entries: list[tuple[str, str]] = []
        ends: list[tuple[str, Way]] = []
        for domain in domains if "$" in found.file else [""]:
            file = self._source.plain(found.file.replace("$domain", domain))
            for number, key, value in table(self._source.text_of(file, place)):
                if key.startswith("*") and "*" not in found.kind:
                    continue
                at = _below(key, domain) if domain else key
                end = _end(key, value)
                ends += [(at, way) for way in end]
                entries += [] if end else self._entry(at, value, f"{file}:{number}", [domain] if domain else domains)
        text, name = map_text(entries), file_name(found.file.replace("$domain", "aliases"))
        stage = replace(stage, ends=tuple(ends))
        return replace(stage, aliases=(self._source.sheet.map(name, text),)) if text else stage

    def _names_of(self, stage: Stage) -> list[str]:
        """The domains it is for; all that are ours, where it names none."""
        named = [name for name in patterns_of(stage.domains) if name != "*"] or list(patterns_of(self._open))
        return list(dict.fromkeys(name.lstrip("=") for name in named if name != "*"))

    def _entry(self, key: str, value: str, place: str, domains: list[str]) -> list[tuple[str, str]]:
        """An entry of an alias file, as far as it stands for addresses; told of, where it does not."""
        targets = [_target(word) for word in value.split(",") if word.strip()]
        is_default = key.startswith("*") and key.partition("@")[2] in ("", *domains)
        if not all(targets) or not targets or not (is_default or _KEY.fullmatch(key)):
            remedy = "programs, files and :words: are no recipients here; a [[route]] with `addresses`"
            self._source.sheet.leave(f"{place}: {key}: {value}", remedy)
        kept = ", ".join(target for target in targets if target)
        if kept and key == "*":
            return [(f"@{domain}", kept) for domain in domains]
        return [(key.removeprefix("*"), kept)] if kept and (is_default or _KEY.fullmatch(key)) else []


def _end(key: str, value: str) -> list[Way]:
    """Where an entry leads that stands for no address: nowhere, or back; none where it stands for some."""
    found = re.fullmatch(r':(fail|blackhole):\s*(.*)|"?/dev/null"?', value, re.DOTALL)
    if found is None or _USER.fullmatch(key) is None:
        return []
    return [_special(found[1] or "blackhole", found[2] or "")]


def _below(key: str, domain: str) -> str:
    return key if "@" in key else f"{key}@{domain}"


def _target(word: str) -> str:
    """An address in an alias file, as ours have it; "" where it is none."""
    inner = re.search(r"<([^<>]+)>\s*$", word)
    address = (inner[1] if inner is not None else word).strip().strip('"').removeprefix("\\")
    return address if re.fullmatch(r"[^\s|/:;,\"<>()@\\]+(@[A-Za-z0-9.-]+)?", address) else ""


def _special(word: str, text: str) -> Way:
    """`:fail:` and its kin. Raises: NotPlainError."""
    match word:
        case "blackhole":
            return Way(("discard:",))
        case "fail":
            said = " ".join(re.sub(r"[^ -~]", "?", text).split())[:200] or "mail is not taken here"
            code = re.match(r"(5\d\d )?(5\.\d{1,3}\.\d{1,3} )?(?=\S)", said)
            rest = said[code.end() :] if code is not None else said
            return checked(Way((f"reject:{(code and code[1]) or '550 '}{(code and code[2]) or '5.1.1 '}{rest}",)))
        case _:
            raise NotPlainError(f"there is no :{word}: here")


def _wider(pattern: str, known: list[str]) -> str:
    """The pattern that would decide, were this one not there."""
    others = [one for one in known if one not in ("*", pattern)]
    wider = [one for one in others if covers(one, pattern) or pattern == f"={one}"]  # with it itself, unlike Exim's
    return max(wider, key=len, default="*")

"""Keeps the MTA-STS policies of domains: fetched over HTTPS, believed as long as they say, on disk across restarts.

RFC 8461 §3.3, §5.1 and §10.2: a policy once seen holds until its max_age ends, even if somebody on the way hides its
record or its file; it is fetched again as soon as its record has another id, and ahead of its end. Where several
processes share the queue, each tells the others what it fetched (`tell`, `heard`), and they believe it as their own.
Not here: what a policy means (mta_sts.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import msgspec

from waypost.mail.tls_result import TlsTrouble
from waypost.net.clock import Clock
from waypost.net.https import Https, HttpsAnswer, HttpsFailed, HttpsTrouble
from waypost.net.resolver import DnsTrouble, Resolver, Texts
from waypost.route.level import NoStsPolicy
from waypost.route.mta_sts import MAX_POLICY, KeptPolicy, Mode, PolicyError, parse_policy, record_id

#: RFC 8461 §3.3 suggests a minute for a fetch, and five minutes before a domain is asked again after one that failed.
FETCH: Final = timedelta(minutes=1)
AFTER_FAILURE: Final = timedelta(minutes=5)
#: A policy this old is fetched again ahead of its end (RFC 8461 §10.2), or when half of its time is over.
STALE: Final = timedelta(days=1)
#: How often the policies are looked through for those.
ROUND: Final = timedelta(hours=1)
#: Policies kept; beyond it the one longest unused is given up.
CAPACITY: Final = 10_000
#: Policies fetched at once when they are looked through.
AT_ONCE: Final = 4


_UNKNOWN: Final = NoStsPolicy("none is known")


class Shelf(Protocol):
    """Where policies outlive the process. Blocking; an OSError is the disk's fault."""

    def load(self) -> Sequence[KeptPolicy]:
        """All that are there and can be read."""
        ...

    def put(self, kept: KeptPolicy) -> None: ...

    def drop(self, domain: str) -> None: ...


class DirectoryShelf:
    """A file a domain in one directory, named after it; written beside and moved into place, so that each is whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> Sequence[KeptPolicy]:
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self._directory.iterdir())[:CAPACITY]:
                with contextlib.suppress(OSError, ValueError):  # what cannot be read is fetched again
                    kept = msgspec.json.decode(path.read_bytes(), type=KeptPolicy)
                    if kept.domain == path.name:
                        found.append(kept)
        return found

    def put(self, kept: KeptPolicy) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        beside = self._directory / ".new"
        with beside.open("wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._directory / kept.domain)

    def drop(self, domain: str) -> None:
        (self._directory / domain).unlink(missing_ok=True)


class NoShelf:
    """Nothing outlives the process: for questions asked beside the service."""

    def load(self) -> Sequence[KeptPolicy]:
        return ()

    def put(self, kept: KeptPolicy) -> None:
        """Let it go."""

    def drop(self, domain: str) -> None:
        """There is nothing."""


class StsKeeper:
    """The policies known now. One fetch a domain at a time, whoever waits for it; see StsPolicies in level.py."""

    def __init__(self, resolver: Resolver, https: Https, shelf: Shelf, clock: Clock) -> None:
        self._resolver = resolver
        self._https = https
        self._shelf = shelf
        self._clock = clock
        self._kept: OrderedDict[str, KeptPolicy] = OrderedDict()
        self._failed: OrderedDict[str, tuple[float, str, NoStsPolicy]] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[KeptPolicy | NoStsPolicy]] = {}
        self._writing = asyncio.Lock()
        #: Told of policies fetched, for the other processes.
        self.tell: Callable[[KeptPolicy], None] = _nobody

    async def open(self) -> None:
        """Take up what was known before. Raises: OSError, where the shelf cannot be read."""
        for kept in await asyncio.to_thread(self._shelf.load):
            self._kept[kept.domain] = kept

    async def close(self) -> None:
        """Drop the fetches under way."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def policy(self, domain: str) -> KeptPolicy | NoStsPolicy:
        """The policy in force for `domain` (lower-case A-labels); waits for a fetch only where there is none yet."""
        kept = self._current(domain)
        is_known = isinstance(kept, KeptPolicy)
        answer = await self._resolver.texts(f"_mta-sts.{domain}")
        try:
            announced = record_id(answer.texts) if isinstance(answer, Texts) else ""
        except PolicyError as error:
            return kept if is_known else NoStsPolicy(str(error), TlsTrouble.STS_INVALID)
        if isinstance(kept, KeptPolicy) and announced in {"", kept.id}:
            if announced and self._is_stale(kept):
                self._fetch(domain, announced)  # ahead of time: nobody waits
            return _in_force(kept)
        if not announced:
            if isinstance(answer, DnsTrouble):
                return NoStsPolicy(f"nobody knows whether {domain} announces one: {answer.detail}", may_pass=True)
            return NoStsPolicy(f"{domain} announces none")
        fetched = await asyncio.shield(self._fetch(domain, announced))
        if isinstance(fetched, NoStsPolicy) and is_known:
            return _in_force(kept)  # RFC 8461 §3.3: the old one holds where the new one cannot be had
        return _in_force(fetched)

    async def keep(self) -> None:
        """Look through the policies for ever: fetch again what grows old, give up what has ended."""
        while True:
            await self._clock.sleep(ROUND)
            stale = []
            for kept in list(self._kept.values()):
                if self._is_over(kept):
                    await self._drop(kept.domain)
                elif self._is_stale(kept):
                    stale.append(kept)
            for start in range(0, len(stale), AT_ONCE):
                await asyncio.gather(*(self._fetch(kept.domain, kept.id) for kept in stale[start : start + AT_ONCE]))

    def _current(self, domain: str) -> KeptPolicy | NoStsPolicy:
        if domain not in self._kept or self._is_over(self._kept[domain]):
            return _UNKNOWN
        self._kept.move_to_end(domain)
        return self._kept[domain]

    def _is_over(self, kept: KeptPolicy) -> bool:
        return self._clock.now() >= kept.expires_at

    def _is_stale(self, kept: KeptPolicy) -> bool:
        age = self._clock.now() - kept.fetched_at
        return not 0 <= age < min(STALE, kept.policy.max_age / 2).total_seconds()

    def _fetch(self, domain: str, announced: str) -> asyncio.Future[KeptPolicy | NoStsPolicy]:
        """The fetch under way, or one begun now; or what the last came to, if it failed just now."""
        until, for_id, failure = self._failed.get(domain, (0.0, "", NoStsPolicy("")))
        if for_id == announced and self._clock.monotonic() < until:
            failed: asyncio.Future[KeptPolicy | NoStsPolicy] = asyncio.get_running_loop().create_future()
            failed.set_result(failure)
            return failed
        if domain not in self._fetching:
            task = asyncio.create_task(self._fetched(domain, announced))
            self._fetching[domain] = task
            task.add_done_callback(lambda _: self._fetching.pop(domain, None))
        return self._fetching[domain]

    async def _fetched(self, domain: str, announced: str) -> KeptPolicy | NoStsPolicy:
        url = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
        answer = await self._https.get(url, limit=MAX_POLICY, within=FETCH)
        found = self._read(domain, announced, answer)
        if isinstance(found, NoStsPolicy):
            self._failed[domain] = (self._clock.monotonic() + AFTER_FAILURE.total_seconds(), announced, found)
            self._failed.move_to_end(domain)
            while len(self._failed) > CAPACITY:
                self._failed.popitem(last=False)
            return found
        self._failed.pop(domain, None)
        self.tell(found)
        await self._put(found)
        return found

    def heard(self, kept: KeptPolicy) -> None:
        """Another process fetched a policy, and keeps it; the later of two counts."""
        known = self._kept.get(kept.domain)
        if not self._is_over(kept) and (known is None or known.fetched_at < kept.fetched_at):
            self._failed.pop(kept.domain, None)
            self._kept[kept.domain] = kept
            self._kept.move_to_end(kept.domain)
            while len(self._kept) > CAPACITY:
                self._kept.popitem(last=False)

    def _read(self, domain: str, announced: str, answer: HttpsAnswer | HttpsFailed) -> KeptPolicy | NoStsPolicy:
        if isinstance(answer, HttpsFailed):
            is_certificate = answer.trouble is HttpsTrouble.CERTIFICATE
            trouble = TlsTrouble.STS_CERTIFICATE if is_certificate else TlsTrouble.STS_FETCH
            said = f"the policy of {domain} could not be fetched: {answer}"
            return NoStsPolicy(said, trouble, may_pass=not is_certificate)
        if answer.status != 200:
            said = f"the policy of {domain} could not be fetched: its server answered {answer.status}"
            return NoStsPolicy(said, TlsTrouble.STS_FETCH, may_pass=True)
        if answer.media_type != "text/plain":
            said = f"what {domain} serves as its policy is {answer.media_type}, not text/plain"
            return NoStsPolicy(said, TlsTrouble.STS_INVALID)
        try:
            return KeptPolicy(domain, announced, parse_policy(answer.body), self._clock.now())
        except PolicyError as error:
            return NoStsPolicy(f"the policy of {domain} means nothing: {error}", TlsTrouble.STS_INVALID)

    async def _put(self, kept: KeptPolicy) -> None:
        self._kept[kept.domain] = kept
        self._kept.move_to_end(kept.domain)
        while len(self._kept) > CAPACITY:
            await self._drop(next(iter(self._kept)))
        with contextlib.suppress(OSError):  # it holds all the same, until the process ends
            async with self._writing:
                await asyncio.to_thread(self._shelf.put, kept)

    async def _drop(self, domain: str) -> None:
        self._kept.pop(domain, None)
        with contextlib.suppress(OSError):
            async with self._writing:
                await asyncio.to_thread(self._shelf.drop, domain)


def _nobody(kept: KeptPolicy) -> None:
    """There is no other process."""


def _in_force(found: KeptPolicy | NoStsPolicy) -> KeptPolicy | NoStsPolicy:
    if isinstance(found, KeptPolicy) and found.policy.mode is Mode.NONE:
        return NoStsPolicy(f'the policy of {found.domain} has the mode "none"')
    return found

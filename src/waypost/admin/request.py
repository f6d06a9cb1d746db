"""One request to the API, as its handlers read it: segments, query and body, and who asks. Raises: OperationError.

What a query may hold stands in the table (paths.py) alone: defaults and bounds are taken from there. Not here: whether
he may ask (guard.py), and what is answered (api.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from aiohttp import web

from waypost.admin.answers import ActBody, FailureKind, FreezeBody, OperationError, WatchBody, from_json
from waypost.admin.guard import Whoami
from waypost.mail.envelope import MessageId
from waypost.queue.storage import Selection

T = TypeVar("T")
Signed = TypeVar("Signed", ActBody, FreezeBody, WatchBody)


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of a path's query. `kind`: string or integer; `most` 0: as much as there is."""

    name: str
    about: str
    kind: str = "string"
    default: str = ""
    repeats: bool = False
    least: int = 0
    most: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the guard has let in. `queries`: what the table knows of its query."""

    http: web.Request
    who: Whoami
    queries: tuple[Query, ...]

    def segment(self, name: str) -> str:
        """A segment of the path."""
        return self.http.match_info[name]

    def number_in_path(self, name: str, called: str) -> int:
        """One that is a number; a person knows it as `called`."""
        return number(self.segment(name), called)

    def text(self, name: str) -> str:
        """A parameter of the query; where it is not given, its default."""
        return self.http.query.get(name, self._query(name).default)

    def number(self, name: str) -> int:
        """One that is a number."""
        query = self._query(name)
        return number(self.text(name), name, least=query.least, most=query.most)

    def selection(self) -> Selection:
        """Which recipients are meant: SELECTION's parameters."""
        return Selection(
            ids=tuple(MessageId(each) for each in self.http.query.getall("id", [])),
            address=self.text("address"),
            domain=self.text("domain"),
            next_hop=self.text("next_hop"),
            state=self.text("state"),
            text=self.text("text"),
            received_before=float(self.number("received_before")),
        )

    def _query(self, name: str) -> Query:
        return next(query for query in self.queries if query.name == name)

    async def body(self, kind: type[T]) -> T:
        """What was sent."""
        return read(await self.http.read(), kind)

    async def body_or(self, default: T) -> T:
        """The same; where nothing was sent, `default`."""
        octets = await self.http.read()
        return read(octets, type(default)) if octets else default

    def by(self, said: str) -> str:
        """Who did it: whoever has to log in cannot say that he is another."""
        if not self.who.asks:
            return said or "admin API"
        return self.who.name if not said or said == "admin API" else f"{self.who.name}, for {said}"

    def signed(self, body: Signed) -> Signed:
        """The body, with who it was."""
        return replace(body, by=self.by(body.by))


def read(octets: bytes, kind: type[T]) -> T:
    """A request's body. Raises: OperationError."""
    try:
        return from_json(octets, kind)
    except ValueError as error:
        raise OperationError(
            FailureKind.BAD_REQUEST,
            f"the request's body is not as expected: {error}",
            "send the fields that docs/reference/api.md names",
        ) from None


def number(text: str, name: str, *, least: int = 0, most: int = 0) -> int:
    """A number in a query or path. Raises: OperationError."""
    if text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= (most or 10**18):
        return int(text)
    bound = f", at most {most}" if most else ""
    raise OperationError(FailureKind.BAD_REQUEST, f"{name} is {text!r}", f"give a whole number, {least} or more{bound}")

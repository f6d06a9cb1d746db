"""From a TOML document to sections, each validated by itself: a fault in one hides none in another."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from waypost.config.complaint import Complaint
from waypost.config.lines import Path, lines_of
from waypost.config.model import ARRAYS, TABLES, Section
from waypost.config.reference import example, toml

S = TypeVar("S", bound=Section)
SECTIONS: Final = TABLES | ARRAYS

_PROBLEMS: Final = {
    "string_type": "is not text in quotes",
    "int_type": "is not a whole number",
    "float_type": "is not a number",
    "bool_type": "is neither true nor false",
    "tuple_type": "is not a list in [brackets]",
    "too_short": "is empty",
    "string_too_short": "is empty",
}


@dataclass(frozen=True, slots=True)
class Found(Generic[S]):
    """A section, and the way to it in the document."""

    path: Path
    section: S


@dataclass(frozen=True, slots=True)
class Placed(Generic[S]):
    """A section, and where a person finds it and each of its keys ("waypost.toml:12")."""

    section: S
    place: str
    places: Mapping[str, str] = field(default_factory=dict)

    def of(self, key: str) -> str:
        """The place of one of its keys; that of the section where it is not written."""
        return self.places.get(key, self.place)


@dataclass(slots=True)
class Reader:
    """Hands out the sections of one document, gathering complaints as it goes."""

    document: Mapping[str, Any]
    lines: Mapping[Path, int]
    complaints: list[Complaint] = field(default_factory=list)

    @classmethod
    def of(cls, document: Mapping[str, Any], text: str) -> Reader:
        """A reader of `document`, which is what `text` spells; it has complained of what is no section at all."""
        reader = cls(document, lines_of(text))
        for name in document:
            if name not in SECTIONS:
                reader.complain((name,), f"{name!r} is no section", _meant(name, SECTIONS, ()))
        return reader

    def complain(self, path: Path, problem: str, remedy: str) -> None:
        """Write a complaint down, with the line `path` or the nearest thing around it stands on."""
        nearest = path
        while nearest not in self.lines:
            nearest = nearest[:-1]
        self.complaints.append(Complaint(self.lines[nearest], key_text(path), problem, remedy))

    def value(self, path: Path) -> Any:
        """What the document has there, as it is written; nothing where it has nothing."""
        found: Any = self.document
        for step in path:
            try:
                found = found[step]
            except (KeyError, IndexError):
                return None
        return found

    def table(self, name: str, model: type[S]) -> list[S]:
        """The section `[name]`: one, by its defaults where the file has none of it; or none, being faulty."""
        value = self.document.get(name, {})
        if isinstance(value, dict):
            return [found.section for found in self._validate((name,), value, model)]
        self.complain((name,), "is not a table", f"Write [{name}], and its keys on the lines below")
        return []

    def array(self, name: str, model: type[S]) -> list[Found[S]]:
        """The sections `[[name]]`, without those that are faulty."""
        value = self.document.get(name, [])
        if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            self.complain((name,), "is not an array of tables", f"Write [[{name}]], with two brackets, once for each")
            return []
        return [found for index, table in enumerate(value) for found in self._validate((name, index), table, model)]

    def _validate(self, path: Path, table: dict[str, Any], model: type[S]) -> Iterable[Found[S]]:
        try:
            return [Found(path, model.model_validate({key: _frozen(value) for key, value in table.items()}))]
        except ValidationError as faults:
            details = faults.errors(include_url=False)
            inside = {fault["loc"][0] for fault in details if len(fault["loc"]) > 1}
            for fault in details:
                if fault["type"] != "too_short" or fault["loc"][0] not in inside:  # its elements are wrong, not too few
                    self._translate(path, fault, model)
            return []

    def _translate(self, path: Path, fault: ErrorDetails, model: type[Section]) -> None:
        """Pydantic's finding in our words, with what to write instead."""
        key = str(fault["loc"][0])
        context = fault.get("ctx", {})
        here = (*path, *fault["loc"])
        remedy = f"Write {key} = {example(model.model_fields[key])}" if key in model.model_fields else ""
        value = toml(fault["input"])
        match fault["type"]:
            case "missing":
                self.complain(here, "is missing", remedy)
            case "extra_forbidden":
                self.complain(here, "is no setting of this section", _meant(key, model.model_fields, path))
            case "waypost":
                self.complain(here, context["problem"], _sentence(context["remedy"]) or remedy)
            case "literal_error":
                self.complain(here, f"{value} is not among its values", f"Write {context['expected']}")
            case "greater_than_equal":
                self.complain(here, f"{value} is too little", f"The least is {context['ge']}")
            case "less_than_equal":
                self.complain(here, f"{value} is too much", f"The most is {context['le']}")
            case other:
                self.complain(here, f"{value} {_PROBLEMS.get(other, fault['msg'])}", remedy)


def placed(found: Sequence[Found[S]], where: str, reader: Reader) -> tuple[Placed[S], ...]:
    """Sections with their places in the file `where`."""
    file = PurePath(where).name
    return tuple(
        Placed(
            each.section,
            f"{file}:{reader.lines[each.path]}",
            {key: f"{file}:{reader.lines[(*each.path, key)]}" for key in each.section.model_fields_set},
        )
        for each in found
    )


def key_text(path: Path) -> str:
    """`route.tls`: the way to a value as a person says it; which of several is told by the line."""
    return ".".join(str(step) for step in path if isinstance(step, str))


def _frozen(value: object) -> object:
    """Lists as tuples: what is configured does not change."""
    return tuple(_frozen(element) for element in value) if isinstance(value, list) else value


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _meant(key: str, known: Iterable[str], path: Path) -> str:
    """What was probably meant by an unknown key: one like it here, or one of that name in another section."""
    names = list(known)
    close = difflib.get_close_matches(key, names, 1)
    if close:
        return f"Did you mean {close[0]}?"
    elsewhere = [name for name, model in SECTIONS.items() if key in model.model_fields]
    if elsewhere:
        return f"Move it to [{elsewhere[0]}]" if elsewhere[0] in TABLES else f"Move it to [[{elsewhere[0]}]]"
    return f"{'There are' if path else 'Sections are'}: {', '.join(names)}"

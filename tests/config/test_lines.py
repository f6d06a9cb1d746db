"""The line scanner against `tomllib`, on documents written at random by a writer that counts lines as it goes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waypost.config.lines import Path, lines_of

SCALARS = st.sampled_from(
    [
        "1",
        "-3.5e+2",
        "true",
        "0xff",
        "1979-05-27T07:32:00.5Z",
        "1979-05-27 07:32:00",
        '""',
        '"a # b ] } , = [[x]]"',
        r'"quote \" and \\"',
        "'c:\\path\\'",
        "''",
        '"""one\ntwo [x]\n"""',
        '""""quoted" at both ends"""""',
        '"""a \\""" b"""',
        '"""\n\\\n  x = 1 \\\\"""',
        "'''\n# no comment ''\n'''",
        "'''it's'''''",
        '""""""',
    ]
)
GAPS = st.sampled_from(["", " ", "\n", ' # why ] not [ "\n', "\r\n", "\n\n  \t"])
KEYS = st.sampled_from(["{}", '"{}.x"', "'{} ] #'", '"\\u0041 {} \\""', "{}-_1", '" {}"'])
Draw = Callable[[st.SearchStrategy[str]], str]


class Writer:
    """Writes TOML, and writes down on which line each thing begins."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.text = ""
        self.lines: dict[Path, int] = {(): 1}
        self._keys = 0

    def key(self) -> str:
        self._keys += 1
        return self._draw(KEYS).format(f"k{self._keys}")

    def mark(self, path: Path) -> Path:
        self.lines.setdefault(path, self.text.count("\n") + 1)
        return path

    def gap(self) -> None:
        self.text += self._draw(GAPS)

    def pair(self, table: Path, depth: int) -> None:
        keys = [self.key() for _ in range(int(self._draw(st.sampled_from("112"))))]
        path = table
        for key in keys:
            path = self.mark((*path, named(key)))
        self.text += f"{' . '.join(keys)} = "
        self.value(path, depth)

    def value(self, path: Path, depth: int) -> None:
        kind = self._draw(st.sampled_from(["scalar", "array", "table"] if depth else ["scalar"]))
        if kind == "array":
            self.array(path, depth - 1)
        elif kind == "table":
            self.inline_table(path, depth - 1)
        else:
            self.text += self._draw(SCALARS)

    def array(self, path: Path, depth: int) -> None:
        self.text += "["
        for index in range(int(self._draw(st.sampled_from("012")))):
            self.text += "," if index else ""
            self.gap()
            self.value(self.mark((*path, index)), depth)
            self.gap()
        self.text += "]"

    def inline_table(self, path: Path, depth: int) -> None:
        self.text += "{ "
        for number in range(int(self._draw(st.sampled_from("012")))):
            self.text += ", " if number else ""
            self.pair(path, depth)
        self.text += " }"

    def section(self) -> None:
        self.text += "\n"
        name = self.key()
        path: Path = (named(name),)
        for index in range(int(self._draw(st.sampled_from("012")))):
            self.mark(path)
            here = self.mark((*path, index))
            self.text += f"[[ {name} ]] # an array\n"
            self.pairs(here)
            inner = self.key()
            self.mark((*here, named(inner)))
            self.text += f"[{name}.{inner}]\n"
            self.pairs((*here, named(inner)))
        plain = self.key()
        self.mark((named(plain),))
        self.text += f"\t[ {plain} ]\r\n"
        self.pairs((named(plain),))

    def pairs(self, table: Path) -> None:
        for _ in range(int(self._draw(st.sampled_from("012")))):
            self.pair(table, depth=2)
            self.text += self._draw(st.sampled_from(["\n", " # end\n", "\r\n"]))


def named(key: str) -> str:
    return next(iter(tomllib.loads(f"{key} = 0")))


@st.composite
def written(draw: Draw) -> Writer:
    writer = Writer(draw)
    writer.pairs(())
    for _ in range(int(draw(st.sampled_from("012")))):
        writer.section()
    return writer


def paths_in(value: object, path: Path = ()) -> Iterator[Path]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_in(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_in(inner, (*path, index))


@settings(max_examples=300)
@given(written())
def test_each_thing_tomllib_reads_is_found_on_the_line_it_was_written_on(writer: Writer) -> None:
    document: Mapping[str, object] = tomllib.loads(writer.text)
    found = lines_of(writer.text)
    assert set(found) == set(paths_in(document))
    assert found == writer.lines


@pytest.mark.parametrize("file", [FilePath("pyproject.toml"), FilePath("examples/quickstart.toml")], ids=str)
def test_files_of_our_own_are_read_as_tomllib_reads_them(file: FilePath) -> None:
    text = (FilePath(__file__).parents[2] / file).read_text("utf-8")
    assert set(lines_of(text)) == set(paths_in(tomllib.loads(text)))

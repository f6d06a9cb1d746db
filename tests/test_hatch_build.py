"""The compiled build: who asks for it, what it lacks, and what mypyc is given in place of the sources.

Rewritten modules are run by the interpreter here; `make test-compiled` runs what mypyc makes of them.
"""

from __future__ import annotations

import ast
import sysconfig
from pathlib import Path

import pytest
from hatch_build import HOT, VARIABLE, compile_into, is_asked, prepared

SOURCES = Path(__file__).parents[1] / "src"
MODULES = [Path("waypost", folder, f"{name}.py") for folder, names in HOT.items() for name in names.split()]

VALUE = '''\
from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property


@dataclass
class Value:
    """A value of each kind of field."""

    name: str
    size: int = 7
    marks: list[str] = field(default_factory=list)
    looks: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.name = self.name.upper()

    @cached_property
    def title(self) -> str:
        self.looks += 1
        return f"{self.name} {self.size}"
'''

ERRORS = """\
def told(kind: str) -> str:
    try:
        return str(int(kind)) + {}[kind]
    except ValueError as error:
        return f"no number: {error}"
    except KeyError as error:
        return "é" + repr(error) + str(error)
"""


def run(source: str) -> dict[str, object]:
    names: dict[str, object] = {"__name__": __name__}
    exec(prepared(source, "value.py"), names)  # noqa: S102 - what the build would compile
    return names


@pytest.mark.parametrize(("said", "meant"), [("", False), ("0", False), ("1", True)])
def test_only_who_asks_gets_a_compiled_build(said: str, meant: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    monkeypatch.setenv(VARIABLE, said)
    assert is_asked() is meant


def test_who_says_neither_yes_nor_no_is_told_what_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "yes")
    with pytest.raises(SystemExit, match="WAYPOST_COMPILED=yes: say 1 for a compiled build, or 0"):
        is_asked()


def test_a_missing_compiler_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -pthread")
    with pytest.raises(SystemExit, match=r"the C compiler no-such-compiler.*apt-get install gcc"):
        compile_into(tmp_path, SOURCES)
    assert list(tmp_path.iterdir()) == []


def test_missing_headers_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "true")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(SystemExit, match=r"needs Python's headers \(.*Python\.h\).*python3-dev"):
        compile_into(tmp_path, SOURCES)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_keeps_its_lines_for_the_sake_of_tracebacks(module: Path) -> None:
    source = (SOURCES / module).read_text("utf-8")
    assert lines_of_functions(source) == lines_of_functions(prepared(source, str(module)))


def lines_of_functions(source: str) -> set[tuple[str, int]]:
    """Where functions that stand in both begin: constructors written out, and properties kept, are new."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    kept = {one.name for one in functions if "cached_property" in map(ast.unparse, one.decorator_list)}
    kept |= {one.name.removeprefix("_make_") for one in functions if one.name.startswith("_make_")}
    new = {"__init__", *kept, *(f"_make_{name}" for name in kept)}
    return {(one.name, one.lineno) for one in functions if one.name not in new}


def test_a_constructor_written_out_does_what_dataclass_would_have_made() -> None:
    value = run(VALUE)["Value"]
    assert isinstance(value, type)
    one, other = value("a"), value("b", size=8, marks=["x"])
    assert (one.name, one.size, one.marks, one.looks) == ("A", 7, [], 0)
    assert (other.name, other.size, other.marks) == ("B", 8, ["x"])
    assert value("a").marks is not one.marks
    assert value("a") == one != other


def test_a_cached_property_is_still_made_once() -> None:
    value = run(VALUE)["Value"]
    assert isinstance(value, type)
    one = value("a")
    assert (one.title, one.title, one.looks) == ("A 7", "A 7", 1)


def test_errors_caught_under_one_name_get_names_of_their_own() -> None:
    made = prepared(ERRORS, "errors.py")
    assert "except ValueError as error_4:" in made
    assert "except KeyError as error_6:" in made
    told = run(ERRORS)["told"]
    assert callable(told)
    assert told("7") == "éKeyError('7')'7'"
    assert told("x").startswith("no number: invalid literal")


def test_an_open_class_may_have_interpreted_subclasses() -> None:
    source = "from __future__ import annotations\n\n\n\nclass Table:\n    def look(self) -> None:\n        pass\n"
    assert "@mypyc_attr(allow_interpreted_subclasses=True)\nclass Table:" in prepared(source, "table.py")


def test_a_module_with_coroutines_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"wait\.py: coroutines are not compiled"):
        prepared("async def wait() -> None:\n    pass\n", "wait.py")


def test_a_cached_property_outside_a_dataclass_is_refused() -> None:
    source = "class Kept:\n    limit: int\n\n    @cached_property\n    def name(self) -> str:\n        return ''\n"
    with pytest.raises(SystemExit, match=r"Kept's cached_property.*keep it in a field"):
        prepared(source, "kept.py")

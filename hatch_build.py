"""The optional compiled build: with WAYPOST_COMPILED=1 in the environment, the wheel's hot modules are C extensions.

mypyc (of mypy) turns typed Python into C. The sources stay as they are and lie beside what was made of them: a
traceback still shows their lines, and a wheel built without the variable is pure Python. docs/howto/compile.md says
how to ask for it and what it brings; `make test-compiled` runs the whole test suite on it.

Not compiled: what waits for others (config, admin, net), what libraries do (json, log), and what mypyc cannot take.
"""

from __future__ import annotations

import ast
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE: Final = "WAYPOST_COMPILED"

#: The modules compiled, by their folder: those a message passes through, as the profiler names them, and none that
#: waits. mypyc keeps the error in hand while a coroutine goes on behind an inner one that handled it: a client's
#: time-out came out as the cancellation of its session. Nor any that takes JSON apart: msgspec reads types as written.
HOT: Final[Mapping[str, str]] = {
    "smtp": "agreement answer body client command errors event extension framing login order"
    " path patience reply request server settings stage transaction xtext",
    "mail": "attempt explain header notification outcome trace",
    "queue": "ids schedule",
    "route": "domain route table target",
    "receive": "judge",
    "deliver": "crowd fates opening",
    "report": "journal tally",
}

#: Classes of these modules that interpreted ones are derived from, in app or in tests.
OPEN: Final = frozenset({"Journal", "Table"})


class BuildHook(BuildHookInterface):  # type: ignore[type-arg] # hatchling does not say of what
    """Adds the extensions to the wheel, where they are asked for."""

    def dependencies(self) -> list[str]:
        """What a build needs beside hatchling: the compiler of types, and the libraries whose types it reads."""
        return ["mypy>=2.4,<3", "setuptools>=71.1", *self.metadata.core.dependencies] if is_asked() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is packed. Raises: SystemExit, where it cannot be done, with the remedy."""
        if not is_asked():
            return
        if version == "editable":
            raise SystemExit(
                f"{VARIABLE}: an editable install runs the sources as they are; install without --editable"
            )
        self._work = Path(tempfile.mkdtemp(prefix="waypost-compiled-"))
        built = compile_into(self._work, Path(self.root) / "src")
        build_data["pure_python"], build_data["infer_tag"] = False, True
        build_data["force_include"] |= {str(file): str(file.relative_to(self._work / "lib")) for file in built}

    def finalize(self, *_: object) -> None:
        """Clear away what the wheel now holds."""
        if is_asked():
            shutil.rmtree(self._work)


def is_asked() -> bool:
    """Whether the environment asks for a compiled build. Raises: SystemExit, where it says neither yes nor no."""
    said = os.environ.get(VARIABLE, "")
    if said not in {"", "0", "1"}:
        raise SystemExit(f"{VARIABLE}={said}: say 1 for a compiled build, or 0 (or nothing) for pure Python")
    return said == "1"


def compile_into(work: Path, sources: Path) -> list[Path]:
    """The extensions of all hot modules, in work/lib, named as in a wheel."""
    _require_compiler()
    shutil.copytree(sources, work / "src", ignore=shutil.ignore_patterns("__pycache__"))
    modules = [Path("waypost", folder, f"{name}.py") for folder, names in HOT.items() for name in names.split()]
    for module in modules:
        path = work / "src" / module
        path.write_text(prepared(path.read_text("utf-8"), str(module)), "utf-8")
    before = Path.cwd()
    os.chdir(work / "src")  # mypyc names modules by their paths from here
    try:
        _run_compilers([str(module) for module in modules], work)
    finally:
        os.chdir(before)
    return sorted((work / "lib").rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"))


def _require_compiler() -> None:
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    header = Path(sysconfig.get_path("include"), "Python.h")
    lacking = [] if shutil.which(compiler) else [f"the C compiler {compiler}"]
    lacking += [] if header.exists() else [f"Python's headers ({header})"]
    if lacking:
        remedy = f"install it (Debian: apt-get install gcc python3-dev), or build without {VARIABLE}: pure Python"
        raise SystemExit(f"{VARIABLE}=1 needs {' and '.join(lacking)}: {remedy}")


def _run_compilers(modules: list[str], work: Path) -> None:
    from mypyc.build import mypycify  # noqa: PLC0415 - only a compiled build has it
    from setuptools import Distribution  # noqa: PLC0415 - likewise
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415 - likewise

    class BuildAtOnce(build_ext):  # type: ignore[misc] # setuptools tells mypy no types
        """Compiles the C files of an extension beside each other, as many as there are processors."""

        def build_extension(self, ext: Any) -> None:
            def compiled(source: str) -> str:
                found: list[str] = self.compiler.compile(
                    [source],
                    output_dir=self.build_temp,
                    include_dirs=ext.include_dirs,
                    extra_postargs=ext.extra_compile_args,
                )
                return found[0]

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                ext.extra_objects = [*ext.extra_objects, *pool.map(compiled, ext.sources)]
            ext.sources = []
            super().build_extension(ext)

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # Extras may not be installed, and some libraries tell no types: neither is a reason not to compile.
    options = ["--config-file=", f"--python-version={version}", "--ignore-missing-imports"]
    extensions = mypycify(
        [*options, *modules],
        opt_level="2",
        debug_level="0",
        multi_file=True,
        group_name="waypost",
        target_dir=str(work / "c"),
    )
    command = BuildAtOnce(Distribution({"name": "waypost", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(work / "lib"), str(work / "temp")
    command.ensure_finalized()
    command.run()


# ---- what mypyc is helped with. Each change keeps every line where it is, for the sake of tracebacks.
def prepared(source: str, name: str) -> str:
    """A module as mypyc is given it: dataclasses with constructors written out, and open classes marked as such.

    mypyc leaves the constructor that `dataclass` makes to the interpreter, a quarter of a microsecond for each value.
    Raises: SystemExit, where the module has what mypyc would take, but understand otherwise.
    """
    lines = source.splitlines()
    nodes = list(ast.walk(ast.parse(source)))
    if any(isinstance(one, ast.AsyncFunctionDef) for one in nodes):
        raise SystemExit(f"{name}: coroutines are not compiled (see HOT); leave the module out, or part it")
    for handler in (one for one in nodes if isinstance(one, ast.ExceptHandler) and one.name):
        _rename(handler, lines)
    for node in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        kept = [one for one in _methods(node) if "cached_property" in map(ast.unparse, one.decorator_list)]
        place = (fields[-1] if fields else node.body[0]).end_lineno or 0
        if _is_plain_dataclass(node) and not "".join(lines[place : place + 1]):
            lines[place : place + 1] = [_constructor(node, fields, kept)]
        elif kept:
            raise SystemExit(f"{name}: mypyc makes {node.name}'s cached_property anew at each look; keep it in a field")
        for one in kept:  # above it are an empty line and its decorator
            lines[one.lineno - 3 : one.lineno] = _kept_property(one)
        if node.name in OPEN:  # above it are two empty lines
            lines[node.lineno - 3] = "if typing.TYPE_CHECKING: from mypy_extensions import mypyc_attr"
            lines[node.lineno - 2] = "@mypyc_attr(allow_interpreted_subclasses=True)"
    return "\n".join([*lines, ""]).replace("import annotations\n", "import annotations; import typing\n", 1)


def _rename(handler: ast.ExceptHandler, lines: list[str]) -> None:
    """Give a caught error a name of its own: mypyc takes the type of the first one caught by a name for that of all."""
    old, new = str(handler.name), f"{handler.name}_{handler.lineno}"
    lines[handler.lineno - 1] = lines[handler.lineno - 1].replace(f" as {old}:", f" as {new}:")
    names = [one for one in ast.walk(handler) if isinstance(one, ast.Name) and one.id == old]
    for one in sorted(names, key=lambda one: -one.col_offset):  # from the right: what is left of it stays in its place
        line = lines[one.lineno - 1].encode()
        lines[one.lineno - 1] = (line[: one.col_offset] + new.encode() + line[one.end_col_offset :]).decode()


def _is_plain_dataclass(node: ast.ClassDef) -> bool:
    """Whether all its constructor does is to be read off its fields."""
    decorators = [ast.unparse(one) for one in node.decorator_list]
    is_dataclass = len(decorators) == 1 and decorators[0].startswith("dataclass") and "kw_only" not in decorators[0]
    return is_dataclass and not node.bases and "__init__" not in map(_name, _methods(node))


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [one for one in node.body if isinstance(one, ast.FunctionDef)]


def _name(one: ast.FunctionDef) -> str:
    return one.name


def _kept_property(one: ast.FunctionDef) -> list[str]:
    """The head of a cached_property, in three lines: a property that looks into a list, and who fills that."""
    kept = f"self._kept_{one.name}"
    made = f"{kept} or {kept}.append(self._make_{one.name}()) or {kept}"
    return [
        "    @property",
        f"    def {one.name}(self) -> {ast.unparse(one.returns or one)}: return ({made})[0]  # type: ignore",
        f"    def _make_{one.name}(self) -> {ast.unparse(one.returns or one)}:",
    ]


def _constructor(node: ast.ClassDef, fields: Iterable[ast.AnnAssign], kept: Iterable[ast.FunctionDef]) -> str:
    """The constructor that `dataclass` would make, in a line."""
    parameters, steps = ["self"], []
    for one in fields:
        name, kind = ast.unparse(one.target), ast.unparse(one.annotation)
        told = _told(one)
        given = f" = {told['default']}" if "default" in told else ""
        if told.get("init") == "False":
            steps += [f"self.{name}{given}"] if given else []
        elif "default_factory" in told:
            parameters.append(f"{name}: {kind} | None = None")
            steps.append(f"self.{name} = {told['default_factory']}() if {name} is None else {name}")
        else:
            parameters.append(f"{name}: {kind}{given}")
            steps.append(f"self.{name} = {name}")
    steps += [f"self._kept_{one.name}: list[{ast.unparse(one.returns or one)}] = []" for one in kept]
    steps += ["self.__post_init__()"] if "__post_init__" in map(_name, _methods(node)) else []
    return f"    def __init__({', '.join(parameters)}) -> None: {'; '.join(steps or ['pass'])}  # type: ignore"


def _told(one: ast.AnnAssign) -> dict[str, str]:
    """What a field says of its value: `default`, `default_factory`, `init`, each as it stands there."""
    match one.value:
        case None:
            return {}
        case ast.Call(func=ast.Name(id="field"), keywords=keywords):
            return {str(keyword.arg): ast.unparse(keyword.value) for keyword in keywords}
        case value:
            return {"default": ast.unparse(value)}

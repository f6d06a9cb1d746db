"""From a module's name or file to its hooks. To look at one runs none of its code; to load it does.

Not here: asking them (calls.py).
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from waypost.hooks.calls import Hook
from waypost.hooks.values import Point


class HookError(Exception):
    """A module cannot be used; "problem; remedy". The administrator's to mend."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a module is: a file, or what Python imports by a dotted name."""

    text: str
    base: Path

    @property
    def is_file(self) -> bool:
        """Whether it is a file's name."""
        return self.text.endswith(".py")

    @property
    def name(self) -> str:
        """What it is called where nothing else is said."""
        return Path(self.text).stem if self.is_file else self.text.rpartition(".")[2]

    def file(self) -> Path:
        """Its file. Raises: HookError."""
        if self.is_file:
            return self.base / self.text
        try:
            found = importlib.util.find_spec(self.text)
        except (ImportError, ValueError) as error:
            raise HookError(f'{self.text!r} cannot be imported: {error}; name a file, such as "policy.py"') from error
        if found is None or not found.origin or not found.origin.endswith(".py"):
            raise HookError(f'there is no module {self.text!r}; name a file, such as "policy.py", or install it')
        return Path(found.origin)


def looked_at(source: Source) -> tuple[Point, ...]:
    """The hooks a module defines, without running it. Raises: HookError."""
    file = source.file()
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except OSError as error:
        raise HookError(f"{file} cannot be read: {error.strerror}; name a file that can") from error
    except (SyntaxError, ValueError) as error:
        raise HookError(f"{file} is no Python: {error}; mend it there") from error
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    found = tuple(point for point in Point if point.value in functions)
    for point in found:
        if isinstance(functions[point.value], ast.FunctionDef):
            raise HookError(f"{file}: {point.value} is no coroutine; write async def {point.value}(event)")
    if not found:
        wanted = ", ".join(point.value for point in Point)
        raise HookError(f"{file} defines no hook; write an async def of one of {wanted}")
    return found


def loaded(source: Source, settings: Mapping[str, object]) -> Mapping[Point, Hook]:
    """The hooks of a module, which is run now. Raises: HookError."""
    try:
        module = _imported(source)
        configure: Callable[[Mapping[str, object]], object] = getattr(module, "configure", _nothing_to_configure)
        configure(settings)
    except HookError:
        raise
    except BaseException as error:
        raise HookError(f"{source.text} failed as it was loaded: {type(error).__name__}: {error}; mend it") from error
    found = {point: getattr(module, point.value) for point in Point if hasattr(module, point.value)}
    return {point: hook for point, hook in found.items() if inspect.iscoroutinefunction(hook)}


def _nothing_to_configure(settings: Mapping[str, object]) -> None:
    if settings:
        raise HookError("it has settings, but no configure(settings) that would take them; leave them out")


def _imported(source: Source) -> ModuleType:
    if not source.is_file:
        return importlib.import_module(source.text)
    name = f"waypost_hook_{source.name}"
    spec = importlib.util.spec_from_file_location(name, source.file())
    if spec is None or spec.loader is None:
        raise HookError(f"{source.text} cannot be loaded; name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module

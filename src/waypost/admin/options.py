"""Options that several commands share, each group said once: the fields of a dataclass are options of a command.

typer knows a command's options by its parameters alone; `spread` lets one parameter stand for such a group. Not here:
the groups (terminal.py, queueing.py), and what the options mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """`command` as typer takes it: a parameter whose type is a dataclass gives way to the dataclass's fields."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)}
    options = [one for each in signature(command).parameters.values() for one in _options(each, hints)]

    @wraps(command)
    def gather(**given: Any) -> None:
        gathered = {
            name: kind(**{one.name: given.pop(one.name) for one in fields(kind)}) for name, kind in groups.items()
        }
        command(**given, **gathered)

    gather.__annotations__ = {one.name: one.annotation for one in options}
    gather.__dict__["__signature__"] = Signature(options)
    return gather


def _options(parameter: Parameter, hints: Mapping[str, Any]) -> Iterator[Parameter]:
    """The parameter itself, or the fields of its type."""
    kind = hints[parameter.name]
    if not is_dataclass(kind):
        yield parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=kind)
        return
    of_fields = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        default = Parameter.empty if one.default is MISSING else one.default
        yield Parameter(one.name, Parameter.KEYWORD_ONLY, default=default, annotation=of_fields[one.name])

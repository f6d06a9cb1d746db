"""Values are made faster, once all types are known: some sixty a message, and freezing them cost a tenth of it.

A frozen dataclass sets each field past its own guard, which takes four times as long as a plain assignment. Who would
change a value is found by the type checker, and by the guard in every test. A service that runs takes the guard off,
and lets constructors assign; what they take and do is the same. Compiled classes need none of this, and are left alone.

Not here: the other preparations for a long life (serving.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from types import FunctionType
from typing import Any


def quicken(types: Iterable[type] | None = None) -> int:
    """Quicken these frozen dataclasses (by default all of ours that were imported); how many were."""
    found = [one for one in (_ours() if types is None else types) if _is_guarded(one)]
    plain = [_plain(one) for one in found]
    # In this order, for other threads make values meanwhile: a guard stops a plain constructor, also that of a class
    # derived from its own, while the constructors that were there do without it.
    for one in found:
        del one.__setattr__, one.__delattr__
    for one, assigning in zip(found, plain, strict=True):
        one.__init__ = assigning.__init__  # type: ignore[misc] # that is the point
    return len(found)


def _ours() -> Iterator[type]:
    for name, module in list(sys.modules.items()):
        if name.startswith("waypost."):
            yield from (one for one in vars(module).values() if isinstance(one, type) and one.__module__ == name)


def _is_guarded(one: type) -> bool:
    """Whether it is a frozen dataclass whose constructor is the one that `dataclass` wrote."""
    made = vars(one).get("__init__")
    is_made = isinstance(made, FunctionType) and made.__code__.co_filename == "<string>"
    return is_made and is_dataclass(one) and "__setattr__" in vars(one) and "__delattr__" in vars(one)


def _plain(one: type) -> type:
    """A class whose constructor takes the same, and assigns."""
    after = {"__post_init__": one.__post_init__} if hasattr(one, "__post_init__") else {}
    each = [(known.name, Any, _anew(known)) for known in fields(one)]
    slots = "__slots__" in vars(one)  # beside the constructor nothing is wanted
    return make_dataclass(one.__name__, each, namespace=after, slots=slots, repr=False, eq=False, match_args=False)


def _anew(one: Field[Any]) -> Any:
    if one.default_factory is not MISSING:
        return field(default_factory=one.default_factory, init=one.init, kw_only=bool(one.kw_only))
    if one.default is not MISSING:
        return field(default=one.default, init=one.init, kw_only=bool(one.kw_only))
    return field(init=one.init, kw_only=bool(one.kw_only))

"""All sections there are have a place of their own type."""

from __future__ import annotations

import typing

from waypost.config.model import ARRAYS, TABLES
from waypost.config.sections import Found
from waypost.config.written import Written


def _model(annotation: object) -> tuple[object, bool]:
    """Of a field, the model of what it holds, and whether each is told with its way in the document."""
    (held,) = typing.get_args(annotation)
    found = typing.get_origin(held) is Found
    return (typing.get_args(held)[0] if found else held), found


def test_each_section_of_the_manual_has_a_field_of_its_own_model_and_there_are_no_others() -> None:
    fields = {name: _model(annotation) for name, annotation in typing.get_type_hints(Written).items()}
    tables = {name: (model, False) for name, model in TABLES.items()}
    arrays = {name: (model, True) for name, model in ARRAYS.items()}
    assert fields == tables | arrays

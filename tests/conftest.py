"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# No deadline for an example: on a busy machine a pause is no fault of the code (pytest-timeout judges hangs).
settings.register_profile("waypost", deadline=None)
settings.load_profile("waypost")

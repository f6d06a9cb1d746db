"""What a soak needs of the live tests: a directory on a disk, a way to print what was found."""

from __future__ import annotations

from tests.live.conftest import place, say

__all__ = ["place", "say"]

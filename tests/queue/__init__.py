"""Tests of waypost.queue."""  # noqa: A005 - it mirrors the package, and is never imported bare

"""One target under atheris, in this process, until libFuzzer ends it. `python -m fuzz` starts it."""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    try:
        import atheris  # noqa: PLC0415 - it is not there where nobody fuzzes
    except ImportError:
        sys.exit("atheris is not installed: `make fuzz` does that, where there is a wheel of it for this Python")
    name, *rest = sys.argv[1:]
    with atheris.instrument_imports(include=["waypost", "dns"]):
        one = importlib.import_module(f"fuzz.fuzz_{name}").one
    atheris.Setup([sys.argv[0], *rest], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

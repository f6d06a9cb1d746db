"""The replies that the program gives, read out of its source: each 4yz and 5yz, what is filled in left open as `…`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Whoever plays a server for others to try: its replies are not ours.
NOT_OURS = ("admin/", "testing/", "deliver/")


def replies() -> dict[str, str]:
    """Each reply as a client reads it, and the file that says it."""
    found: dict[str, str] = {}
    source = ROOT / "src" / "waypost"
    for file in sorted(source.rglob("*.py")):
        place = str(file.relative_to(source))
        if not place.startswith(NOT_OURS):
            for call in ast.walk(ast.parse(file.read_text("utf-8"))):
                for said in _reply(call):
                    found.setdefault(said, place)
    return found


def _reply(call: ast.AST) -> Iterator[str]:
    match call:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="Reply"), attr="of"),
            args=[ast.Constant(value=int(code)), ast.Constant(value=str(status)), text],
        ) if code >= 400:
            yield f"{code} {status} {_text(text)}"
        case ast.Call(func=ast.Name(id="Reply"), args=[ast.Constant(value=int(code)), ast.Tuple(elts=[text, *_])]) if (
            code >= 400
        ):
            yield f"{code} {_text(text)}"
        case _:
            return


def _text(written: ast.expr) -> str:
    match written:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
        case _:
            return "…"

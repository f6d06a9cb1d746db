"""The API's description: OpenAPI 3.1, made of the table that is served and of the types that are written.

Printed as the manual's page, too (docs/reference/api.md), so that neither can be out of date.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

import msgspec

from waypost import __version__
from waypost.admin.answers import ACTIONS, Alive, Login, Ready
from waypost.admin.api import Live
from waypost.admin.guard import Whoami
from waypost.admin.paths import Path
from waypost.admin.request import Query
from waypost.admin.wire import SEGMENT, Get, Octets, Post
from waypost.auth.admins import Role

_REF: Final = "#/components/schemas/{name}"
_STATUS: Final = {
    "400": "The request is wrong.",
    "401": "Nobody knows who asks.",
    "403": "The Host or Origin header, a missing header, or the role forbids it.",
    "404": "There is no such thing.",
    "405": "Not by this method.",
    "409": "The configuration that was to be used is refused, and why.",
    "413": "The body is too large.",
    "500": "A defect; the log has it.",
    "503": "The spool does not answer.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What every failure answers: what is wrong, and what to do."""

    error: str
    remedy: str


def document(paths: Sequence[Path]) -> dict[str, Any]:
    """The whole description."""
    types = [Problem, Live, Whoami, Login, Alive, Ready]
    types += [kind for path in paths for kind in _types(path)]
    _, schemas = msgspec.json.schema_components(dict.fromkeys(types), schema_hook=_anything, ref_template=_REF)
    described: dict[str, dict[str, Any]] = {}
    for path in paths:
        described.setdefault(plain_path(path.operation.path), {})[path.method.lower()] = _operation(path)
    described |= _BESIDES
    return {
        "openapi": "3.1.0",
        "info": {"title": "Waypost", "version": __version__, "description": "The admin API of a mail relay."},
        "paths": dict(sorted(described.items())),
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "waypost"},
            },
        },
        "security": [{}, {"token": []}, {"session": []}],
    }


def _types(path: Path) -> tuple[type, ...]:
    match path.operation:
        case Octets():
            return ()
        case Post(answer=answer, body=body):
            return answer, body
        case Get(answer=answer):
            return (answer,)
        case never:
            assert_never(never)


def _anything(_kind: type) -> dict[str, Any]:
    """The details of an event are whatever JSON they are."""
    return {"description": "Any JSON."}


def plain_path(path: str) -> str:
    """The path as OpenAPI writes it, without patterns."""
    return SEGMENT.sub(r"{\1}", path)


def _operation(path: Path) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": path.operation.name,
        "summary": path.about,
        "tags": [path.tag],
        "parameters": [*_segments(path.operation.path), *map(_parameter, path.query)],
        "responses": {"200": _answer(path), **_failures()},
    }
    if path.method != "GET":
        operation["parameters"].append(_HEADER)
        operation["description"] = f"For {path.role.value}s."
    if isinstance(path.operation, Post):
        content = {"application/json": {"schema": _ref(path.operation.body)}}
        operation["requestBody"] = {"required": False, "content": content}
    return operation


_HEADER: Final = {
    "name": "X-Waypost",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "enum": ["1"]},
    "description": "Keeps web pages from acting for you. With a session's cookie, `X-CSRF` is needed, too.",
}


def _segments(path: str) -> Iterator[dict[str, Any]]:
    for name, pattern in SEGMENT.findall(path):
        schema: dict[str, Any] = {"type": "string", "minLength": 1}
        if pattern:
            schema["enum"] = pattern.split("|")
        elif name in {"number", "part"}:
            schema = {"type": "integer", "minimum": 0}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _parameter(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": query.kind}
    if query.kind == "integer":
        schema |= {"minimum": query.least, "maximum": query.most or 10**15}
    if query.repeats:
        schema = {"type": "array", "items": schema}
    elif query.default:
        schema["default"] = int(query.default) if query.kind == "integer" else query.default
    return {"name": query.name, "in": "query", "description": query.about, "schema": schema}


def _answer(path: Path) -> dict[str, Any]:
    if isinstance(path.operation, Octets):
        return _text(path.operation.answer, path.about)
    return _is(path.operation.answer, path.about)


def _failures() -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(Problem)}}
    return {status: {"description": about, "content": content} for status, about in _STATUS.items()}


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}


def _probe(name: str, about: str, answers: dict[str, dict[str, Any]], **more: object) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": about,
        "tags": ["service"],
        "responses": answers | _failures_but(answers),
    } | more


def _failures_but(answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {status: about for status, about in _failures().items() if status not in answers}


def _is(kind: type, about: str) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": _ref(kind)}}}


def _text(kind: str, about: str) -> dict[str, Any]:
    return {"description": about, "content": {kind: {"schema": {"type": "string"}}}}


#: What is served beside the table.
_BESIDES: Final[dict[str, dict[str, Any]]] = {
    "/api/login": {
        "post": _probe(
            "login",
            "Begin a session: the answer sets its cookie.",
            {"200": _is(Whoami, "Who has logged in.")},
            parameters=[_HEADER],
            requestBody={"required": True, "content": {"application/json": {"schema": _ref(Login)}}},
        )
    },
    "/api/logout": {
        "post": _probe("logout", "End it.", {"204": {"description": "It has ended."}}, parameters=[_HEADER])
    },
    "/healthz": {"get": _probe("healthz", "200 while the process lives.", {"200": _is(Alive, "It lives.")})},
    "/readyz": {
        "get": _probe(
            "readyz",
            "200 where it is fit to serve, else 503 with the reasons.",
            {"200": _is(Ready, "It is."), "503": _is(Ready, "It is not.")},
        )
    },
    "/metrics": {
        "get": _probe("metrics", "For Prometheus; metrics.md lists them.", {"200": _text("text/plain", "The metrics.")})
    },
    "/openapi.json": {
        "get": _probe(
            "openapi",
            "This description.",
            {"200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}},
        )
    },
}


# ---- the manual's page
_HEAD: Final = """\
# The admin API

<!-- Printed by waypost.admin.openapi from the table that is served. Do not edit. -->

HTTP on `[admin] address`. `GET /openapi.json` describes all of it for programs (OpenAPI 3.1). On loopback and without
`[admin] users` whoever may open a socket on the machine may ask; with them, a request brings a session's cookie
(`POST /api/login`) or a token (`Authorization: Bearer …`; `waypost admin token` makes one), and its role says what it
may do ([the dashboard](../dashboard.md) tells more). The `Host` header has to name the service, and an `Origin` has to
be its own. A request that changes something is a POST with the header `X-Waypost: 1`, and with a session's cookie
`X-CSRF`, too, as `GET /api/session` has it.

Answers are JSON. Instants are seconds since 1970-01-01T00:00:00Z, sizes are octets. An error is
`{"error": "what is wrong", "remedy": "what to do"}` with status 400 (the request), 401 (nobody knows who asks), 403
(Host, Origin, header or role), 404 (there is no such thing), 503 (the spool does not answer) or 500 (a defect; the log
has it).

```sh
curl -s -X POST -H 'X-Waypost: 1' -d '{"domain": "example.com"}' http://127.0.0.1:8025/api/queue/retry
```
"""


def reference(paths: Sequence[Path]) -> str:
    """docs/reference/api.md."""
    described = document(paths)
    schemas = described["components"]["schemas"]
    rows = ["", "| method and path | what | for |", "|---|---|---|"]
    roles = {(path.method, plain_path(path.operation.path)): path.role for path in paths}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            role = roles.get((method.upper(), path), Role.VIEWER).value if path.startswith("/api/") else "anybody"
            role = "anybody" if path.startswith("/api/log") else role
            rows.append(f"| {method.upper()} `{path}` | {operation['summary']}{_takes(operation)} | {role} |")
    rows += ["", f"`{{action}}` is one of {', '.join(f'`{action}`' for action in ACTIONS)}.", ""]
    for name in sorted(schemas):
        rows += list(_schema(name, schemas[name]))
    return _HEAD + "\n".join(rows).rstrip() + "\n"


def _takes(operation: dict[str, Any]) -> str:
    named = [f"`{one['name']}`" for one in operation.get("parameters", ()) if one["in"] == "query"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    said = f" Query: {', '.join(named)}." if named else ""
    said += f" Body: {_link(body)}." if body else ""
    answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return said + (f" Answer: {_link(answer)}." if "$ref" in answer else "")


def _link(schema: dict[str, Any]) -> str:
    name = schema["$ref"].rpartition("/")[2]
    return f"[{name}](#{name.lower()})"


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    if "description" in schema:
        yield from (" ".join(paragraph.split()) + "\n" for paragraph in schema["description"].split("\n\n"))
    if "enum" in schema:
        yield f"One of {', '.join(f'`{value}`' for value in schema['enum'])}."
        yield ""
    for field, kind in schema.get("properties", {}).items():
        yield f"- `{field}`: {_kind(kind)}"
    if schema.get("properties"):
        yield ""


def _kind(kind: dict[str, Any]) -> str:
    if "$ref" in kind:
        return _link(kind)
    if "anyOf" in kind:
        return " or ".join(_kind(one) for one in kind["anyOf"])
    if kind.get("type") == "array":
        inner = kind.get("items") or {}
        return f"a list of {_kind(inner)}" if isinstance(inner, dict) and inner else "a list"
    return str(kind.get("type", "anything"))

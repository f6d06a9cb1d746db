"""A map behind HTTP: GET with the address in the URL; 200 lists values, 404 and 204 none, the rest is trouble."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiohttp
import msgspec

from waypost.maps.lookup import NOT_LISTED, AskError, Listed, Lookup
from waypost.maps.text import split_values
from waypost.net.tls import client_context, private_context

#: Octets of an answer read at most: a thousand addresses.
MAX_OCTETS: Final = 256 * 1024


class HttpQuestion:
    """Asks `url`, in which `{key}` stands for the address; `token` goes along as a bearer token, where there is one.

    `ca`: a file of authorities, in place of those that this machine trusts.
    """

    def __init__(self, url: str, token: str = "", ca: str = "") -> None:
        self._url = url
        self._ca = ca
        self._headers = {"Accept": "application/json, text/plain"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    async def __call__(self, key: str) -> Lookup:
        """The addresses of the answer: a JSON list of text, or text. Raises: AskError, ClientError, OSError."""
        url = self._url.replace("{key}", quote(key, safe=""))
        context = private_context(Path(self._ca)) if self._ca else client_context()
        async with (
            aiohttp.ClientSession(headers=self._headers) as session,
            session.get(url, allow_redirects=False, ssl=context) as answer,
        ):
            if answer.status in {204, 404}:
                return NOT_LISTED
            if answer.status != 200:
                raise AskError(f"{url} answered {answer.status} {answer.reason}")
            octets = await _whole(answer.content, url)
            values = _values(octets, is_json=answer.content_type == "application/json")
        return Listed(values, url) if values else NOT_LISTED


async def _whole(content: aiohttp.StreamReader, url: str) -> bytes:
    octets = bytearray()
    async for chunk in content.iter_any():
        octets += chunk
        if len(octets) > MAX_OCTETS:
            raise AskError(f"{url} answered with more than {MAX_OCTETS} octets")
    return bytes(octets)


def _values(octets: bytes, *, is_json: bool) -> tuple[str, ...]:
    if not is_json:
        return split_values(octets.decode("utf-8"))
    return msgspec.json.decode(octets, type=tuple[str, ...])

"""A bucket of an S3-compatible object store as a configuration names it, and who we are to the store.

Not here: asking the store (s3.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Keys:
    """Who we are to the store. Shown by no repr."""

    access: str
    secret: str = field(repr=False)
    session: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where objects are. `endpoint`: "https://host[:port]", or "" for Amazon's; `prefix` of names: "", or "a/b/"."""

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}"

    @property
    def root(self) -> str:
        """The URL that names of objects are put behind: the bucket in the path, but for Amazon's in the host."""
        if self.endpoint:
            return f"{self.endpoint}/{self.name}/"
        return f"https://{self.name}.s3.{self.region}.amazonaws.com/"


def parse_bucket(text: str) -> Bucket:
    """A bucket's address, "s3://bucket/prefix?endpoint=https://s3.example.net&region=eu-1". Raises: ValueError."""
    parts = urlsplit(text)
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc:
        raise ValueError(
            f'{text!r} is no bucket; write one such as "s3://bucket/prefix?endpoint=https://s3.example.net"'
        )
    said = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(said.keys() - {"endpoint", "region"})
    if unknown:
        raise ValueError(f"{text!r} says {unknown[0]}, which means nothing; there are endpoint and region")
    endpoint = said.get("endpoint", "").rstrip("/")
    if endpoint and (urlsplit(endpoint).scheme not in {"http", "https"} or not urlsplit(endpoint).netloc):
        raise ValueError(f'{endpoint!r} is no endpoint; write its URL, such as "https://s3.example.net"')
    prefix = unquote(parts.path).strip("/")
    return Bucket(parts.netloc, f"{prefix}/" if prefix else "", endpoint, said.get("region") or "us-east-1")

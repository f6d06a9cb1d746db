"""`[cluster] bodies`: the object store that a cluster keeps large messages' octets in, checked whole.

Not here: what is kept there (queue/postgres/bodies.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from waypost.config.model import Cluster
from waypost.config.rules import Secret
from waypost.config.sections import Reader
from waypost.net.bucket import Bucket, Keys, parse_bucket


@dataclass(frozen=True, slots=True)
class Store:
    """Where octets are of messages larger than `inline`."""

    bucket: Bucket
    keys: Keys
    inline: int


def build_stores(
    clusters: Sequence[Cluster], reader: Reader, *, base: Path, environment: Mapping[str, str]
) -> tuple[Store, ...]:
    """The store, where there is one."""
    return tuple(store for one in clusters for store in _stores(one, reader, base, environment))


def _stores(cluster: Cluster, reader: Reader, base: Path, environment: Mapping[str, str]) -> list[Store]:
    keys = _keys(cluster, reader, base, environment)
    if not cluster.bodies:
        for name in ("bodies_key", "bodies_secret_file", "bodies_secret_env"):
            if getattr(cluster, name):
                reader.complain(("cluster", name), "is for a store, and there is none", 'Write bodies = "s3://…" too')
        return []
    try:
        return [Store(parse_bucket(cluster.bodies), key, cluster.bodies_above) for key in keys]
    except ValueError as error:
        problem, _, remedy = str(error).partition("; ")
        reader.complain(("cluster", "bodies"), problem, remedy[:1].upper() + remedy[1:])
        return []


def _keys(cluster: Cluster, reader: Reader, base: Path, environment: Mapping[str, str]) -> list[Keys]:
    """Those of the file; else those that the environment has, as all clients of such stores read them."""
    if not cluster.bodies:
        return []
    if not cluster.bodies_key:
        return _keys_around(cluster, reader, environment)
    if bool(cluster.bodies_secret_file) == bool(cluster.bodies_secret_env):
        problem = "needs one secret"
        reader.complain(("cluster", "bodies_key"), problem, "Write one of bodies_secret_file and bodies_secret_env")
        return []
    secret = Secret(cluster.bodies_secret_file, cluster.bodies_secret_env)
    return [Keys(cluster.bodies_key, secret.read(base, environment, ("cluster",), "bodies_secret", reader))]


def _keys_around(cluster: Cluster, reader: Reader, environment: Mapping[str, str]) -> list[Keys]:
    access, secret = environment.get("AWS_ACCESS_KEY_ID", ""), environment.get("AWS_SECRET_ACCESS_KEY", "")
    if access and secret and not (cluster.bodies_secret_file or cluster.bodies_secret_env):
        return [Keys(access, secret, environment.get("AWS_SESSION_TOKEN", ""))]
    reader.complain(
        ("cluster", "bodies"),
        "the store asks who we are, and there is no key",
        "Write bodies_key and bodies_secret_file, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    )
    return []

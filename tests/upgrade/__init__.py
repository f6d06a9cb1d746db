"""Spools as earlier releases wrote them: `schema-N.db.gz` is the `queue.db` of a spool with schema N, compressed.

Each holds two messages from <alice@home.example> to <bob@far.example> for smtp://192.0.2.1:25, one of them in chunks. A
release that changes the schema leaves the one before it here; none is ever written anew.
"""

"""Spools as earlier releases wrote them: `schema-N.db.gz` is the `queue.db` of a spool with schema N, compressed.

Each holds two messages for smtp://192.0.2.1:25, one of them in chunks. A release that changes the schema adds its own
(write.py); none is ever written anew.
"""

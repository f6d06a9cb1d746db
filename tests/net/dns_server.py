"""A DNS server that answers from a test's own zone, from where users' tests have it too: waypost.testing.dns."""

from waypost.testing.dns import DnsServer, Misbehaviour

__all__ = ["DnsServer", "Misbehaviour"]

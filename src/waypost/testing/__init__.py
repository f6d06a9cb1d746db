"""For tests of your own configuration and hooks: the whole service in one process, on time that jumps.

`pip install waypost` brings a plugin of pytest with it: the fixture `waypost` (plugin.py). What stands behind it may be
used without: a clock that jumps (clock.py), servers that go wrong where they are told to (peer.py), DNS from a zone of
the test's own (dns.py), and the service between them (service.py). Nothing leaves the process but DNS on loopback.
"""

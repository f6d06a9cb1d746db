"""The world as small interfaces, and their asyncio forms: Clock, Stream, Dialer, Listener, Resolver.

An I/O error is an ordinary value here (`Fault`), with all that is known of it: nothing downstream can forget it.
"""

"""The SMTP engine, sans-IO: octets in, events out.

It owns no clock, log, socket or DNS and imports nothing of ours, so every dialogue can be played against it whole or
byte by byte. `server` and `client` are the two sessions; `command`, `reply`, `path`, `extension` and `framing` are
the words they speak. What becomes of a message is not decided here: a session decides what to *say* next.
"""

"""The queue: which recipients are due when, and the spool of their messages' octets. The one truth.

`storage` is the one interface, `memory` and `sqlite` stand behind it, `schedule` decides when to try again.
"""

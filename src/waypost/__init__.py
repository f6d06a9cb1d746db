"""Waypost: an internet mail service that never stops, never loses a message, and always tells you why.

A message moves one way, and the folders say so: receive → queue → route → deliver → report.
docs/flow.md walks through them; docs/design.md gives the reasons.
"""

__version__ = "0.1.0"

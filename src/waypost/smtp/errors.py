"""The one exception the sessions raise: a mistake of ours.

What a peer does wrong is never raised: it is an event (`Refused`, `Violation`), because it is an ordinary thing.
"""

from __future__ import annotations


class LocalProtocolError(Exception):
    """The caller broke the protocol: answered what was not asked, began what may not begin now. Always our own bug."""

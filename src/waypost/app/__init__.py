"""The only wiring: builds the parts a Config describes, passes them to one another, starts, watches and stops them.

    Receiver ──→ queue ──→ Dispatcher ──→ queue ──→ Reporter ──→ queue …      AdminServer looks on

Starting: the spool first, the listeners last, so that no mail is taken before there is somebody to keep it. Stopping
goes the other way round. What runs by itself is watched: a part that dies is named in the log and begun again.

`service` is that life; `base` is what the parts share, and `reception`, `delivery`, `reports`, `fetching` and
`administration` build them from it; `works` sets them going, `watch` keeps them at it, `upkeep` is what runs beside
the mail, and `renewal` puts another configuration in force. `parts` is what a test may put others in place of.
"""

from waypost.app.parts import REAL, Parts
from waypost.app.service import Running, running
from waypost.app.settings import log_of

__all__ = ["REAL", "Parts", "Running", "log_of", "running"]

"""Each operation of an administrator once, answered at the source: storage, route table, DNS.

The API (http.py) and the command line (cli.py) are two faces of it; what it answers are the values of answers.py.

`desk` takes each question and has it answered by the file of its subject. What waits: `queue`, held back by its
`windows`, or for other `reasons`; changed by `acting`, and kept in the `bin` for a while. Next hops: `frost`. What
happened: `lives`, and `watching` for what is to be heard. What would happen: `ways`, `explaining`. What is in force
(`in_force`) and was: `configurations`. What `capture:` keeps: `inbox`. `questions` has what all of them check first,
`told` whom they tell of a change. A part is built for one question, of what it needs at that moment.
"""

from waypost.admin.operations.desk import Operations, Readiness
from waypost.admin.operations.in_force import InForce
from waypost.admin.operations.told import Told

__all__ = ["InForce", "Operations", "Readiness", "Told"]

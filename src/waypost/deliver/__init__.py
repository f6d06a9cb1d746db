"""Delivering: one lease in, one Outcome a recipient out.

In the order a message meets them: `dispatch` takes leases, `destination` holds what is known of one next hop, `runner`
runs one attempt and settles it, `smtp` goes over the hosts, `opening` decides how a session with one of them is opened
(`memory` remembers how it went), `connection` is that session, `pool` keeps it for the next message, `transaction`
passes the message on and `fates` gathers what became of each recipient. `local` and `maildir` deliver on this machine.
"""

"""Receiving: listeners drive ServerSession, judge what is asked, and hand envelopes to the queue."""

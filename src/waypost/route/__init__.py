"""Routing: forward-path → Route → the hosts to try, in order."""

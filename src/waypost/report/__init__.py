"""Reporting: outcomes become DSNs in the queue, log lines and metrics."""

"""The embedded spool's schema: numbered files, each run once, forwards only (database.py)."""

"""Lookup tables that an administrator keeps outside the configuration: a key → the values listed for it."""

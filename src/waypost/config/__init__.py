"""Configuration: one TOML file → one frozen `Config`, or every complaint at once, each with its line and a remedy.

model/ says which settings there are, load.py reads a file, check.py compares settings with one another,
reference.py prints the manual. Secrets are read here too, so that a running service never meets a missing file.
"""

from waypost.config.complaint import Complaint, Complaints
from waypost.config.load import Config, load, parse
from waypost.config.reference import reference

__all__ = ["Complaint", "Complaints", "Config", "load", "parse", "reference"]

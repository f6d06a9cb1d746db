"""Delivering: one lease in, one Outcome a recipient out."""

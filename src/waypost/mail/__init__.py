"""What we carry: envelopes, trace headers, outcomes, and reports about them. Pure: no I/O, no clock of its own."""

"""The SMTP engine, sans-IO: octets in, events out.

It owns no clock, log, socket or DNS and imports nothing of ours, so every dialogue can be played against it whole or
byte by byte. What becomes of a message is not decided here: a session decides what to *say* next.

What both sides speak:      framing (octets → lines and replies), body (DATA and BDAT), path, extension, reply,
                            command (a line → its values, and back), event (what a session tells its caller)
A server, in the order in
which a line passes:        server (`ServerSession`) → order (may it come now?) → request (what does it ask of the
                            caller?) → agreement (what did the caller's answer change?); beside them settings (what is
                            on offer), answer (replies of its own) and patience (how much it bears)
A client, in the order in
which a message passes:     client (`ClientSession`) → stage (what does a reply lead to?) → login (AUTH) → transaction
"""

"""Who a client is, and who we are to a server: SASL mechanisms, accounts, passwords and tokens.

The mechanisms are exchanges without I/O (exchange.py, scram.py, bearer.py; client.py for our own side). What they ask
for is judged by `authenticator.py`, with the users' file, PAM, LDAP or an issuer's keys behind it, and `attempts.py`
against guessing. Not here: the command AUTH (waypost.smtp), or what an account may do beyond its reverse-paths.
"""

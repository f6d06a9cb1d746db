"""The queue in PostgreSQL, which several nodes share. Imported only where `spool = "postgresql://…"` asks for it.

`storage` is the Storage the others see; `database` connects and translates errors, `lanes` gathers what is written
together, `writes` and `reads` hold the SQL (its schema: ../sql/postgres), `nodes` tells who is alive.
"""

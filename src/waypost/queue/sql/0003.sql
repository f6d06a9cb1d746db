-- The shelf (queue/shelf.py): small things that must outlast the process.
CREATE TABLE kept (
    space TEXT NOT NULL,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (space, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX kept_until ON kept (until);

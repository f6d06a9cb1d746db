-- Recipients an operator took out of the queue, as they stood: for a while they can be brought back. Their messages'
-- octets stay as long.
CREATE TABLE binned (
    message        INTEGER NOT NULL,
    number         INTEGER NOT NULL,
    at             REAL NOT NULL,
    why            TEXT NOT NULL, -- a sentence
    address        TEXT NOT NULL,
    domain         TEXT NOT NULL,
    next_hop       TEXT NOT NULL,
    parameters     TEXT NOT NULL,
    attempts       INTEGER NOT NULL,
    delay_reported INTEGER NOT NULL,
    doubt          TEXT NOT NULL,
    last_outcome   TEXT NOT NULL,
    priority       INTEGER NOT NULL,
    pinned         INTEGER NOT NULL,
    PRIMARY KEY (message, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX binned_at ON binned (at);

-- Recipients an operator gave another next hop: the route table no longer moves them.
ALTER TABLE recipients ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1));

-- The queue, first form. Times are seconds since 1970; what has not happened has no row, and nothing is NULL.

-- One row a time that a process opened the spool: leases of all epochs but the last have ended.
CREATE TABLE epochs (
    epoch     INTEGER PRIMARY KEY,
    owner     TEXT NOT NULL,
    opened_at INTEGER NOT NULL
) STRICT;

-- The queue in numbers, kept by each transaction itself: counting a million rows is not for a metrics scrape.
CREATE TABLE counts (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    messages   INTEGER NOT NULL CHECK (messages >= 0),
    recipients INTEGER NOT NULL CHECK (recipients >= 0),
    held       INTEGER NOT NULL CHECK (held BETWEEN 0 AND recipients),
    reports    INTEGER NOT NULL CHECK (reports >= 0)
) STRICT;
INSERT INTO counts VALUES (1, 0, 0, 0, 0);

-- A message while somebody needs its octets. The octets come last, so that the rest is read without them.
CREATE TABLE messages (
    id          INTEGER PRIMARY KEY,
    received_at REAL NOT NULL,
    size        INTEGER NOT NULL,
    envelope    TEXT NOT NULL,    -- JSON: see record.py
    draft       INTEGER NOT NULL, -- 0: the octets stand here; else they are the chunks of this draft
    octets      BLOB NOT NULL,
    CHECK (draft = 0 OR octets = x'')
) STRICT;

-- The octets of large messages. position = draft * 2^20 + number of the chunk.
CREATE TABLE chunks (
    position INTEGER PRIMARY KEY,
    octets   BLOB NOT NULL
) STRICT;

CREATE TRIGGER chunks_go_with_their_message AFTER DELETE ON messages WHEN old.draft > 0 BEGIN
    DELETE FROM chunks WHERE position BETWEEN old.draft << 20 AND (old.draft << 20) + (1 << 20) - 1;
END;

-- Drafts no message was made of yet. Those found at opening were left by a process that is gone.
CREATE TABLE drafts (
    number INTEGER PRIMARY KEY
) STRICT;

-- A recipient in the queue. ready_at: when it may be claimed, which is its due time or its lease's end.
CREATE TABLE recipients (
    message        INTEGER NOT NULL,
    number         INTEGER NOT NULL,
    address        TEXT NOT NULL,
    domain         TEXT NOT NULL,
    next_hop       TEXT NOT NULL,
    parameters     TEXT NOT NULL,               -- JSON of RCPT's parameters, or ''
    attempts       INTEGER NOT NULL DEFAULT 0,
    delay_reported INTEGER NOT NULL DEFAULT 0 CHECK (delay_reported IN (0, 1)),
    doubt          TEXT NOT NULL DEFAULT '',    -- the host that may hold a copy, or ''
    due_at         REAL NOT NULL,
    ready_at       REAL NOT NULL,
    lease          INTEGER NOT NULL,            -- the token of the claim, or 0
    held           TEXT NOT NULL DEFAULT '',    -- why it is set aside, or ''
    last_outcome   TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (message, number),
    CHECK (lease > 0 OR ready_at = due_at),
    CHECK (lease = 0 OR held = '')
) STRICT, WITHOUT ROWID;

-- What to try next. Held recipients are not in it.
CREATE INDEX recipients_ready ON recipients (next_hop, ready_at) WHERE held = '';

-- Reports that are due, and of whom they speak.
CREATE TABLE reports (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    message INTEGER NOT NULL,
    notice  TEXT NOT NULL CHECK (notice IN ('failed', 'delayed', 'delivered', 'relayed')),
    UNIQUE (message, notice)
) STRICT;

CREATE TABLE reported (
    report  INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    details TEXT NOT NULL, -- JSON
    PRIMARY KEY (report, number)
) STRICT, WITHOUT ROWID;

-- The inbox that "capture:" keeps. The octets are the message's own.
CREATE TABLE captured (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    message    INTEGER NOT NULL,
    at         REAL NOT NULL,
    recipients TEXT NOT NULL -- JSON
) STRICT;
CREATE INDEX captured_message ON captured (message);

-- What happened to messages between their receipt, which `messages` tells, and their end, which `done` tells.
CREATE TABLE events (
    number  INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    at      REAL NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('attempt', 'report', 'operator')),
    text    TEXT NOT NULL, -- '' for an attempt: its details say it
    details TEXT NOT NULL  -- JSON
) STRICT;
CREATE INDEX events_message ON events (message);

-- Messages nothing is left to do for. For most mail this row is the whole history: receipt, one attempt, end.
CREATE TABLE done (
    message     INTEGER PRIMARY KEY,
    at          REAL NOT NULL,
    received_at REAL NOT NULL,
    envelope    TEXT NOT NULL,
    attempt     TEXT NOT NULL -- JSON of the last attempt, or ''
) STRICT;
CREATE INDEX done_at ON done (at);

-- Messages by address, live and done. period is the upper bits of the message's id, some 70 minutes: new rows meet in
-- one small part of the tree, instead of each dirtying a page of its own, and a search goes through the periods.
CREATE TABLE addresses (
    period  INTEGER NOT NULL,
    address TEXT NOT NULL, -- in lower case
    message INTEGER NOT NULL,
    PRIMARY KEY (period, address, message)
) STRICT, WITHOUT ROWID;

-- The queue on PostgreSQL, first form. As in SQLite (../0001.sql), but for several nodes at once: what is leased tells
-- whose it is, what is counted is counted by each node for itself, and no row is written by everybody.
-- Times are seconds since 1970. What has not happened has no row, and nothing is NULL.

-- Versions of this schema. oldest: the lowest version whose code still works with it, so that nodes of the last release
-- go on while those of the next one come.
CREATE TABLE schema_versions (
    version    integer PRIMARY KEY,
    oldest     integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO schema_versions (version, oldest) VALUES (1, 1);

-- One row a time that a process opened the queue. Its leases' tokens are epoch * 2^32 + a number.
CREATE TABLE nodes (
    epoch       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner       text NOT NULL,             -- "host:process"
    version     text NOT NULL,             -- of the program
    opened_at   double precision NOT NULL, -- by the database's clock, as the next two
    alive_until double precision NOT NULL,
    ended_at    double precision NOT NULL DEFAULT 0 -- when it left, or was declared dead; 0: it is alive
);
CREATE INDEX nodes_alive ON nodes (epoch) WHERE ended_at = 0;

-- Hosts that take no new work.
CREATE TABLE drained (
    host text PRIMARY KEY
);

-- The queue in numbers: the sum of all rows. Each writer of each node adds to a row of its own, so that none waits for
-- another; shard 0 holds what those that have gone had added.
CREATE TABLE counts (
    shard      bigint PRIMARY KEY,
    messages   bigint NOT NULL,
    recipients bigint NOT NULL,
    held       bigint NOT NULL,
    reports    bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO counts VALUES (0, 0, 0, 0, 0);

-- A message while somebody needs its octets.
CREATE TABLE messages (
    id          bigint PRIMARY KEY,
    received_at double precision NOT NULL,
    size        bigint NOT NULL,
    sender      text COLLATE "C" NOT NULL, -- the reverse-path in lower case
    envelope    text NOT NULL,             -- JSON: see record.py
    draft       bigint NOT NULL,           -- 0: the octets stand here; else they are the chunks of this draft
    acceptance  bigint NOT NULL,           -- tells this accepting from any other: see writes.py
    octets      bytea NOT NULL,
    CHECK (draft = 0 OR octets = '')
);
ALTER TABLE messages ALTER COLUMN octets SET STORAGE EXTERNAL; -- mail is written once and read once: no compressing

-- The octets of large messages.
CREATE TABLE chunks (
    draft  bigint NOT NULL,
    number integer NOT NULL,
    octets bytea NOT NULL,
    PRIMARY KEY (draft, number)
);
ALTER TABLE chunks ALTER COLUMN octets SET STORAGE EXTERNAL;

-- Drafts no message was made of yet; number = epoch * 2^32 + a number, as a token.
CREATE TABLE drafts (
    number bigint PRIMARY KEY
);

-- A recipient in the queue. ready_at: when it may be claimed, which is its due time or its lease's end.
CREATE TABLE recipients (
    message        bigint NOT NULL,
    number         integer NOT NULL,
    address        text NOT NULL,
    domain         text COLLATE "C" NOT NULL,
    next_hop       text COLLATE "C" NOT NULL,
    parameters     text NOT NULL,             -- JSON of RCPT's parameters, or ''
    attempts       integer NOT NULL DEFAULT 0,
    delay_reported boolean NOT NULL DEFAULT false,
    doubt          text NOT NULL DEFAULT '',  -- the host that may hold a copy, or ''
    due_at         double precision NOT NULL,
    ready_at       double precision NOT NULL,
    lease          bigint NOT NULL,           -- the token of the claim, or 0
    priority       smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -9 AND 9),
    held           text NOT NULL DEFAULT '',  -- why it is set aside, or ''
    last_outcome   text NOT NULL DEFAULT '',
    pinned         boolean NOT NULL DEFAULT false, -- an operator gave it its next hop: the route table does not move it
    PRIMARY KEY (message, number),
    CHECK (lease > 0 OR ready_at = due_at),
    CHECK (lease = 0 OR held = '')
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);

-- What to try next; held recipients are not in it. Nearly all mail has no priority, and costs the second one nothing.
CREATE INDEX recipients_ready ON recipients (next_hop, ready_at) WHERE held = '';
CREATE INDEX recipients_priority ON recipients (next_hop, priority DESC, ready_at) WHERE held = '' AND priority <> 0;
-- What a node that died had leased.
CREATE INDEX recipients_lease ON recipients (lease) WHERE lease > 0;

-- Recipients an operator took out of the queue, as they stood: for a while they can be brought back. Their messages'
-- octets stay as long.
CREATE TABLE binned (
    message        bigint NOT NULL,
    number         integer NOT NULL,
    at             double precision NOT NULL,
    why            text NOT NULL, -- a sentence
    address        text NOT NULL,
    domain         text COLLATE "C" NOT NULL,
    next_hop       text COLLATE "C" NOT NULL,
    parameters     text NOT NULL,
    attempts       integer NOT NULL,
    delay_reported boolean NOT NULL,
    doubt          text NOT NULL,
    last_outcome   text NOT NULL,
    priority       smallint NOT NULL,
    pinned         boolean NOT NULL,
    PRIMARY KEY (message, number)
);
CREATE INDEX binned_at ON binned (at);

-- Reports that are due, and of whom they speak.
CREATE TABLE reports (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message bigint NOT NULL,
    notice  text NOT NULL CHECK (notice IN ('failed', 'delayed', 'delivered', 'relayed')),
    UNIQUE (message, notice)
);
CREATE TABLE reported (
    report  bigint NOT NULL,
    number  integer NOT NULL,
    details text NOT NULL, -- JSON
    PRIMARY KEY (report, number)
);

-- The inbox that "capture:" keeps. The octets are the message's own.
CREATE TABLE captured (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message    bigint NOT NULL,
    at         double precision NOT NULL,
    recipients text NOT NULL -- JSON
);
CREATE INDEX captured_message ON captured (message);

-- What happened to messages between their receipt, which `messages` tells, and their end, which `done` tells.
CREATE TABLE events (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message bigint NOT NULL,
    at      double precision NOT NULL,
    kind    text NOT NULL CHECK (kind IN ('attempt', 'report', 'operator')),
    text    text NOT NULL, -- '' for an attempt: its details say it
    details text NOT NULL  -- JSON
);
CREATE INDEX events_message ON events (message);

-- Messages nothing is left to do for. For most mail this row is the whole history: receipt, one attempt, end.
CREATE TABLE done (
    message     bigint PRIMARY KEY,
    at          double precision NOT NULL,
    received_at double precision NOT NULL,
    envelope    text NOT NULL,
    attempt     text NOT NULL -- JSON of the last attempt, or ''
);
CREATE INDEX done_at ON done (at);

-- Messages by address, live and done. period is the upper bits of the message's id, some 70 minutes: see ../0001.sql.
CREATE TABLE addresses (
    period  bigint NOT NULL,
    address text COLLATE "C" NOT NULL, -- in lower case
    message bigint NOT NULL,
    PRIMARY KEY (period, address, message)
);

-- The shelf (queue/shelf.py): small things that must outlast the process.
CREATE TABLE kept (
    space text COLLATE "C" NOT NULL,
    key   text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    until double precision NOT NULL,
    PRIMARY KEY (space, key)
);
CREATE INDEX kept_until ON kept (until);

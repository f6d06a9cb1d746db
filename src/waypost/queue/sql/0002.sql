-- Priorities (RFC 6710). Nearly all mail has none, and costs nothing here: the index holds what has one.
ALTER TABLE recipients ADD COLUMN priority INTEGER NOT NULL DEFAULT 0 CHECK (priority BETWEEN -9 AND 9);

CREATE INDEX recipients_priority ON recipients (next_hop, priority DESC, ready_at) WHERE held = '' AND priority <> 0;

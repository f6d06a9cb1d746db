-- Reports on aliases that stand for several recipients (RFC 3461 §5.2.7). SQLite changes a CHECK by a new table alone.
CREATE TABLE wider_reports (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    message INTEGER NOT NULL,
    notice  TEXT NOT NULL CHECK (notice IN ('failed', 'delayed', 'delivered', 'relayed', 'expanded')),
    UNIQUE (message, notice)
) STRICT;
INSERT INTO wider_reports SELECT number, message, notice FROM reports;
DROP TABLE reports;
ALTER TABLE wider_reports RENAME TO reports;

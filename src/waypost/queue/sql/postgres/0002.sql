-- Held recipients are found at once, however many others wait. Nearly none is held, and the rest costs nothing here.
CREATE INDEX recipients_held ON recipients (message, number) WHERE held <> '';
INSERT INTO schema_versions (version, oldest) VALUES (2, 1);

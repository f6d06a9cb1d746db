-- Octets of messages in an object store: their draft's number is below 0, and its objects are named after it.
-- Here stand those that no message needs any longer, until somebody has deleted them. size: -1 where nobody knows it.
CREATE TABLE unwanted (
    draft bigint PRIMARY KEY,
    size  bigint NOT NULL
);
INSERT INTO schema_versions (version, oldest) VALUES (4, 1);

-- Reports on aliases that stand for several recipients (RFC 3461 §5.2.7). A node of an earlier version that reads one stops
-- at it, and goes on as soon as one of this version has filed it.
ALTER TABLE reports DROP CONSTRAINT reports_notice_check;
ALTER TABLE reports ADD CONSTRAINT reports_notice_check
    CHECK (notice IN ('failed', 'delayed', 'delivered', 'relayed', 'expanded'));
INSERT INTO schema_versions (version, oldest) VALUES (3, 1);

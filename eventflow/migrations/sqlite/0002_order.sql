-- The place of an event among those of its aggregate; zero if it has none. A row that waits for its turn
-- is due one microsecond before the end of time.
ALTER TABLE {table} ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
CREATE TABLE {positions} (number INTEGER NOT NULL) STRICT;
INSERT INTO {positions} (number) VALUES (0);

CREATE INDEX {ix_turn} ON {table} (
    consumer, aggregate_id,
    (CASE next_retry_at WHEN 9223372036854775806 THEN 1 ELSE 0 END), position)
    WHERE position > 0 AND status IN ('pending', 'processing', 'failed');

CREATE INDEX {ix_held} ON {table} (consumer, aggregate_id, position)
    WHERE position > 0 AND status = 'dead_letter' AND next_retry_at IS NULL;

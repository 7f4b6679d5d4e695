CREATE INDEX {ix_turn} ON {table} (
    consumer, aggregate_id,
    (CASE next_retry_at WHEN TIMESTAMPTZ '9999-12-31 00:00:00+00' THEN 1 ELSE 0 END), position)
    WHERE position > 0 AND status IN ('pending', 'processing', 'failed');

CREATE INDEX {ix_held} ON {table} (consumer, aggregate_id, position)
    WHERE position > 0 AND status || '' = 'dead_letter' AND next_retry_at IS NULL;

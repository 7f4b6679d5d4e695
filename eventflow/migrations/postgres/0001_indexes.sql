CREATE INDEX {ix_due} ON {table} (consumer, (COALESCE(next_retry_at, received_at)), id)
    WHERE status IN ('pending', 'failed');

CREATE INDEX {ix_lapsed} ON {table} (consumer, (COALESCE(locked_until, '-infinity')), id)
    WHERE status = 'processing';

CREATE INDEX {ix_processed} ON {table} (consumer, processed_at)
    WHERE status = 'processed';

CREATE INDEX {ix_dead} ON {table} (consumer, (COALESCE(last_error_at, received_at)))
    WHERE status = 'dead_letter';

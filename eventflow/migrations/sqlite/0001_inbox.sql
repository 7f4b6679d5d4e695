-- Times are microseconds since 1970 in UTC; `headers` and `payload` are JSON text.
CREATE TABLE {table} (
    id TEXT NOT NULL PRIMARY KEY,
    event_id TEXT NOT NULL,
    stream_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    aggregate_id TEXT NOT NULL,
    correlation_id TEXT,
    occurred_on INTEGER NOT NULL,
    payload TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'processing', 'processed', 'failed', 'dead_letter')),
    retry_count INTEGER NOT NULL DEFAULT 0,
    max_retries INTEGER NOT NULL DEFAULT 3,
    received_at INTEGER NOT NULL,
    processed_at INTEGER,
    next_retry_at INTEGER,
    error_message TEXT,
    last_error_at INTEGER,
    causation_id TEXT,
    headers TEXT,
    raw BLOB,
    consumer TEXT NOT NULL,
    locked_by TEXT,
    locked_until INTEGER,
    lock_token INTEGER NOT NULL DEFAULT 0,
    recovering INTEGER NOT NULL DEFAULT 0,
    UNIQUE (consumer, event_id)
) STRICT;

CREATE INDEX {ix_due} ON {table} (consumer, COALESCE(next_retry_at, received_at), id)
    WHERE status IN ('pending', 'failed');

CREATE INDEX {ix_lapsed} ON {table} (consumer, COALESCE(locked_until, 0), id)
    WHERE status = 'processing';

CREATE INDEX {ix_processed} ON {table} (consumer, processed_at)
    WHERE status = 'processed';

CREATE INDEX {ix_dead} ON {table} (consumer, COALESCE(last_error_at, received_at))
    WHERE status = 'dead_letter';

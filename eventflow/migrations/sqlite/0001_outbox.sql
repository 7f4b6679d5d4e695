-- Times are microseconds since 1970 in UTC; `headers` and `payload` are JSON text.
CREATE TABLE {table} (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    aggregate_id TEXT NOT NULL,
    correlation_id TEXT,
    causation_id TEXT,
    occurred_on INTEGER NOT NULL,
    payload TEXT NOT NULL,
    payload_bytes INTEGER NOT NULL,
    headers TEXT,
    status TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'published', 'dead_letter')),
    created_at INTEGER NOT NULL,
    publish_at INTEGER,
    published_at INTEGER,
    stream_id TEXT,
    error_message TEXT,
    last_error_at INTEGER
) STRICT;

CREATE INDEX {ix_pending} ON {table} (id) WHERE status = 'pending' AND publish_at IS NULL;

CREATE INDEX {ix_delayed} ON {table} (publish_at, id)
    WHERE status = 'pending' AND publish_at IS NOT NULL;

CREATE INDEX {ix_published} ON {table} (published_at) WHERE status = 'published';

CREATE INDEX {ix_dead} ON {table} (last_error_at) WHERE status = 'dead_letter';

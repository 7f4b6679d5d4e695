-- `payload` is JSON, not JSONB: it keeps the text as it was written, and takes what JSONB refuses. Its
-- length stands beside it, so that nobody reads it to know how much to read.
CREATE TABLE {table} (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id VARCHAR(255) NOT NULL,
    event_type VARCHAR(128) NOT NULL,
    aggregate_id UUID NOT NULL,
    correlation_id VARCHAR(255),
    causation_id VARCHAR(255),
    occurred_on TIMESTAMP WITH TIME ZONE NOT NULL,
    payload JSON NOT NULL,
    payload_bytes INTEGER NOT NULL,
    headers JSONB,
    status VARCHAR(50) NOT NULL DEFAULT 'pending',
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now(),
    publish_at TIMESTAMP WITH TIME ZONE,
    published_at TIMESTAMP WITH TIME ZONE,
    stream_id VARCHAR(255),
    error_message TEXT,
    last_error_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT {ck_status} CHECK (status IN ('pending', 'published', 'dead_letter'))
);

CREATE INDEX {ix_pending} ON {table} (id) WHERE status = 'pending' AND publish_at IS NULL;

CREATE INDEX {ix_delayed} ON {table} (publish_at, id)
    WHERE status = 'pending' AND publish_at IS NOT NULL;

CREATE INDEX {ix_published} ON {table} (published_at) WHERE status = 'published';

CREATE INDEX {ix_dead} ON {table} (last_error_at) WHERE status = 'dead_letter';

-- Autovacuum leaves the table without statistics until it has seen some use: by those of a small table, plans that
-- a connection keeps would read all of it, also once it has grown.
ALTER TABLE {table} SET (
    autovacuum_analyze_threshold = 5000,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = 5000
);

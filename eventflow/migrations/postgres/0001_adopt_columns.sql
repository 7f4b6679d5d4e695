-- A table of the Python package: as its README writes it, or as SQLAlchemy does, which leaves the
-- defaults to Python. The rows, and those that Python inserts later, get an owner. Nothing is written
-- to the rows: Postgres keeps the value of a column that they do not have yet beside the table.
ALTER TABLE {table}
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN status SET DEFAULT 'pending',
    ALTER COLUMN retry_count SET DEFAULT 0,
    ALTER COLUMN max_retries SET DEFAULT 3,
    ADD COLUMN causation_id VARCHAR(255),
    ADD COLUMN headers JSONB,
    ADD COLUMN raw BYTEA,
    ADD COLUMN consumer VARCHAR(255) NOT NULL DEFAULT {consumer},
    ADD COLUMN locked_by VARCHAR(255),
    ADD COLUMN locked_until TIMESTAMP WITH TIME ZONE,
    ADD COLUMN lock_token BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN recovering BOOLEAN NOT NULL DEFAULT FALSE;

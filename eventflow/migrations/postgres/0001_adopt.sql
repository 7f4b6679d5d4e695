-- A table of the Python package: as its README writes it, or as SQLAlchemy does, which leaves the
-- defaults to Python. The rows, and those that Python inserts later, get an owner.
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
    ADD COLUMN recovering BOOLEAN NOT NULL DEFAULT FALSE,
    ADD CONSTRAINT {uq_event} UNIQUE (consumer, event_id);

-- What made `event_id` unique on its own, whatever it is called: two services may now have a row
-- each for one event.
DO $adopt$
DECLARE
    unique_index RECORD;
BEGIN
    FOR unique_index IN
        SELECT
            namespace.nspname AS schema_name,
            class.relname AS index_name,
            owner.conname AS constraint_name
        FROM pg_index AS index
        JOIN pg_class AS class ON class.oid = index.indexrelid
        JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
        JOIN pg_attribute AS attribute
            ON attribute.attrelid = index.indrelid AND attribute.attnum = index.indkey[0]
        LEFT JOIN pg_constraint AS owner ON owner.conindid = index.indexrelid
            AND owner.conrelid = index.indrelid
        WHERE index.indrelid = '{table}'::regclass
            AND index.indisunique AND NOT index.indisprimary
            AND index.indnkeyatts = 1 AND index.indpred IS NULL
            AND attribute.attname = 'event_id'
    LOOP
        IF unique_index.constraint_name IS NULL THEN
            EXECUTE format('DROP INDEX %I.%I', unique_index.schema_name, unique_index.index_name);
        ELSE
            EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I', unique_index.constraint_name);
        END IF;
    END LOOP;
END
$adopt$;

-- The place of an event among those of its aggregate; zero if it has none. A row that waits for its turn
-- is due at the end of the year 9999.
ALTER TABLE {table} ADD COLUMN position BIGINT NOT NULL DEFAULT 0;
CREATE SEQUENCE {positions} OWNED BY {table}.position;

-- Autovacuum leaves the table without statistics until it has seen some use: by those of a small table, plans that
-- a connection keeps would read all of it, also once it has grown.
ALTER TABLE {table} SET (
    autovacuum_analyze_threshold = 5000,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = 5000
);

-- The place of an event among those of its aggregate; zero if it has none. A row that waits for its turn
-- is due at the end of the year 9999.
ALTER TABLE {table} ADD COLUMN position BIGINT NOT NULL DEFAULT 0;
CREATE SEQUENCE {positions} OWNED BY {table}.position;

ALTER TABLE {table} ADD CONSTRAINT {uq_event} UNIQUE USING INDEX {uq_event};

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

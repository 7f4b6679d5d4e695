//! The leases of PostgreSQL, in SQL.

use std::time::Duration;

use sqlx::PgConnection;

use super::table::Table;
use crate::database::{columns::micros, lease::leases, sql::Sql};

/// The table of the leases that go with a table.
const TABLE: &str = "
    CREATE TABLE {leases} (
        name VARCHAR(255) PRIMARY KEY,
        holder VARCHAR(255) NOT NULL,
        term BIGINT NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE NOT NULL
    );
";

/// `$1` name, `$2` holder, `$3` time. Answers the new term; nothing if another holds it. Who holds it gets
/// a new term: it may not have heard of the one before.
const ACQUIRE: &str = "
    INSERT INTO {leases} AS lease (name, holder, term, expires_at)
    VALUES ($1, $2, 1, clock_timestamp() + $3 * INTERVAL '1 microsecond')
    ON CONFLICT (name) DO UPDATE SET
        holder = excluded.holder, term = lease.term + 1, expires_at = excluded.expires_at
    WHERE lease.expires_at < clock_timestamp() OR lease.holder = excluded.holder
    RETURNING term";

/// `$1` name, `$2` holder, `$3` term, `$4` time. Changes nothing if another has taken it.
const EXTEND: &str = "
    UPDATE {leases} SET expires_at = clock_timestamp() + $4 * INTERVAL '1 microsecond'
    WHERE name = $1 AND holder = $2 AND term = $3";

/// `$1` name, `$2` holder, `$3` term. The term is over with it: an extension that is still on its way
/// changes nothing.
const RELEASE: &str = "
    UPDATE {leases} SET expires_at = '-infinity', term = term + 1
    WHERE name = $1 AND holder = $2 AND term = $3";

/// The SQL that creates the table of the leases that go with `table`.
pub(crate) fn schema_sql(table: &Table) -> String {
    named(TABLE, table)
}

fn named(template: &str, table: &Table) -> String {
    template.replace("{leases}", &table.beside("leases"))
}

leases!(PgConnection, Table);

//! The leases of SQLite, in SQL.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::NOW;
use crate::database::{columns::micros, identifier::Identifier, lease::leases, sql::Sql};

/// The table of the leases that go with a table.
const TABLE: &str = "
    CREATE TABLE {leases} (
        name TEXT NOT NULL PRIMARY KEY,
        holder TEXT NOT NULL,
        term INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
";

/// `$1` name, `$2` holder, `$3` time. Answers the new term; nothing if another holds it. Who holds it gets
/// a new term: it may not have heard of the one before.
const ACQUIRE: &str = "
    INSERT INTO {leases} AS lease (name, holder, term, expires_at)
    VALUES ($1, $2, 1, {now} + $3)
    ON CONFLICT (name) DO UPDATE SET
        holder = excluded.holder, term = lease.term + 1, expires_at = excluded.expires_at
    WHERE lease.expires_at < {now} OR lease.holder = excluded.holder
    RETURNING term";

/// `$1` name, `$2` holder, `$3` term, `$4` time. Changes nothing if another has taken it.
const EXTEND: &str = "
    UPDATE {leases} SET expires_at = {now} + $4 WHERE name = $1 AND holder = $2 AND term = $3";

/// `$1` name, `$2` holder, `$3` term. The term is over with it: an extension that is still on its way
/// changes nothing.
const RELEASE: &str = "
    UPDATE {leases} SET expires_at = 0, term = term + 1
    WHERE name = $1 AND holder = $2 AND term = $3";

/// The SQL that creates the table of the leases that go with `table`.
pub(crate) fn schema_sql(table: &Identifier) -> String {
    named(TABLE, table)
}

fn named(template: &str, table: &Identifier) -> String {
    let leases = format!("\"{}_leases\"", table.as_str());
    template.replace("{leases}", &leases).replace("{now}", NOW)
}

leases!(SqliteConnection, Identifier);

//! Marks what the broker has answered, and fetches what is due next.

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteRow};

use super::Database;
use crate::{
    database::sqlite::values::json,
    outbox::{
        record::entry,
        table::{BYTES, Demand, Marks, Term},
    },
};

/// Both in one transaction, if there is anything to mark.
pub(super) async fn advance(
    database: &Database,
    term: &Term,
    marks: &Marks,
    deletes: bool,
    demand: &Demand,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    if marks.is_empty() {
        let mut reader = database.connections.reader.acquire().await?;
        return fetch(&mut reader, database, term, demand).await;
    }
    let mut writer = database.connections.writer.acquire().await?;
    // Commits together: what becomes of the events that were sent.
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    mark(&mut transaction, database, term, marks, deletes).await?;
    let rows = fetch(&mut transaction, database, term, demand).await?;
    transaction.commit().await?;
    Ok(rows)
}

async fn mark(
    connection: &mut SqliteConnection,
    database: &Database,
    term: &Term,
    marks: &Marks,
    deletes: bool,
) -> Result<(), sqlx::Error> {
    let statements = &database.statements;
    let published = marks.published.iter().map(|(id, name)| (*id, entry(name)));
    let published: Vec<_> = published.collect();
    let sql = if deletes {
        &statements.delete
    } else {
        &statements.mark
    };
    let lists = [
        (sql, json(&published)?),
        (&statements.refuse, json(&marks.refused)?),
    ];
    for (sql, list) in lists {
        sqlx::query(sql.text())
            .bind(&*term.holder)
            .bind(term.number)
            .bind(list)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn fetch(
    connection: &mut SqliteConnection,
    database: &Database,
    term: &Term,
    demand: &Demand,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    sqlx::query(database.statements.fetch.text())
        .bind(&*term.holder)
        .bind(term.number)
        .bind(json(&demand.besides)?)
        .bind(i64::from(demand.events))
        .bind(BYTES)
        .fetch_all(connection)
        .await
}

//! What a connection's statements have read.

use sqlx::PgPool;

/// How many rows of a table were looked at, by the one connection of the pool among others.
pub async fn rows_read(pool: &PgPool, table: &str) -> i64 {
    // A session tells the others what it has read only now and then.
    for sql in [
        "SELECT pg_stat_force_next_flush()",
        "SELECT pg_stat_clear_snapshot()",
    ] {
        sqlx::query(sql).execute(pool).await.unwrap();
    }
    sqlx::query_scalar(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = $1",
    )
    .bind(table)
    .fetch_one(pool)
    .await
    .unwrap()
}

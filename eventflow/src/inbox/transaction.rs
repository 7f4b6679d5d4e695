//! sqlx's own count of open transactions, moved without a `Transaction` that borrows.
//!
//! A unit of work owns its connection for longer than a borrow lasts, and a handler's
//! `connection.begin()` must become a savepoint: it does if sqlx counts the unit's transaction.

use sqlx::{Database, Error, SqlSafeStr};
use sqlx_core::transaction::TransactionManager;

/// Opens a transaction with a statement of our own.
pub(super) async fn begin<DB: Database>(
    connection: &mut DB::Connection,
    statement: &'static str,
) -> Result<(), Error> {
    DB::TransactionManager::begin(connection, Some(statement.into_sql_str())).await
}

/// Commits the transaction.
pub(super) async fn commit<DB: Database>(connection: &mut DB::Connection) -> Result<(), Error> {
    DB::TransactionManager::commit(connection).await
}

/// Whether exactly one transaction is open, says sqlx.
pub(super) fn is_level<DB: Database>(connection: &DB::Connection) -> bool {
    DB::TransactionManager::get_transaction_depth(connection) == 1
}

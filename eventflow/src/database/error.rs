//! Tells the database's own failures from those of the statement that met them.
//!
//! What is done about them is decided by the engine, and by the units of work.

use std::error::Error as StdError;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::error::{Error, ErrorKind};
use crate::inbox::LossKind;

/// Says whether an error of a statement of ours is the infrastructure's: then no event is to blame.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn infrastructure(error: &(dyn StdError + 'static)) -> Option<LossKind> {
    let mut causes = std::iter::successors(Some(error), |&error: &&(dyn StdError + 'static)| {
        error.source()
    });
    causes.find_map(database::loss_of)
}

/// Says whether the database refuses the values that a statement carries, and would again.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn refuses_values(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Encode(_)) || database::is_of_values(error)
}

/// The error of what the database refused, or could not be asked; `kind` says whose it is.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn failed(kind: ErrorKind, message: impl Into<String>, error: sqlx::Error) -> Error {
    let kind = if refuses_values(&error) {
        ErrorKind::Refused
    } else {
        kind
    };
    let transient = infrastructure(&error).is_some();
    Error::new(kind, message)
        .transient(transient)
        .with_source(error)
}

/// Says whether an error is the infrastructure's that a handler answered, or one of its causes.
///
/// What a handler can cause by itself and would cause again is its failure: a statement that the
/// protocol cannot carry, one that runs for too long, a lock that it did not want to wait for, a
/// transaction that it made read-only.
#[cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    expect(
        unused_variables,
        reason = "without a database there is nothing to find"
    )
)]
pub(crate) fn infrastructure_in_answer(error: &(dyn StdError + 'static)) -> Option<LossKind> {
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    if !database::may_be_the_handlers_doing(error) {
        return database::loss_of(error);
    }
    None
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use self::database::code;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod database {
    use std::error::Error as StdError;

    use sqlx::error::DatabaseError;

    use crate::inbox::LossKind;

    /// The database's code for an error: a SQLSTATE, or SQLite's extended result code.
    pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
        let code = error.as_database_error()?.code()?;
        Some(code.into_owned())
    }

    /// Whether a handler can have caused this itself, and would again.
    pub(super) fn may_be_the_handlers_doing(error: &(dyn StdError + 'static)) -> bool {
        if let Some(sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed | sqlx::Error::PoolClosed) =
            error.downcast_ref()
        {
            return true;
        }
        let code = match error.downcast_ref::<sqlx::Error>() {
            Some(error) => code(error),
            None => code_of_link(error),
        };
        matches!(
            code.as_deref(),
            Some("25006" | "25P03" | "55P03" | "57014" | "14")
        )
    }

    /// The code of a database's error that stands in the chain without its `sqlx::Error`.
    fn code_of_link(error: &(dyn StdError + 'static)) -> Option<String> {
        if let Some(error) = error.downcast_ref::<Box<dyn DatabaseError>>() {
            return error.code().map(std::borrow::Cow::into_owned);
        }
        #[cfg(feature = "postgres")]
        if let Some(error) = error.downcast_ref::<sqlx::postgres::PgDatabaseError>() {
            return Some(error.code().to_owned());
        }
        #[cfg(feature = "sqlite")]
        if let Some(error) = error.downcast_ref::<sqlx::sqlite::SqliteError>() {
            return error.code().map(std::borrow::Cow::into_owned);
        }
        None
    }

    /// What one link of a chain says by itself.
    pub(super) fn loss_of(error: &(dyn StdError + 'static)) -> Option<LossKind> {
        if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            return loss_of_connection(error);
        }
        // Behind `#[error(transparent)]` the `sqlx::Error` is skipped: its source is the next
        // link, which is the box itself or what is in it.
        if let Some(error) = error.downcast_ref::<Box<dyn DatabaseError>>() {
            return loss_of_code(error.as_ref());
        }
        #[cfg(feature = "postgres")]
        if let Some(error) = error.downcast_ref::<sqlx::postgres::PgDatabaseError>() {
            return loss_of_code(error);
        }
        #[cfg(feature = "sqlite")]
        if let Some(error) = error.downcast_ref::<sqlx::sqlite::SqliteError>() {
            return loss_of_code(error);
        }
        None
    }

    fn loss_of_connection(error: &sqlx::Error) -> Option<LossKind> {
        match error {
            sqlx::Error::Database(error) => loss_of_code(error.as_ref()),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Some(LossKind::Infrastructure),
            _ => None,
        }
    }

    fn loss_of_code(error: &dyn DatabaseError) -> Option<LossKind> {
        let code = error.code()?;
        #[cfg(feature = "postgres")]
        if error
            .as_error()
            .downcast_ref::<sqlx::postgres::PgDatabaseError>()
            .is_some()
        {
            return loss_of_sqlstate(&code);
        }
        #[cfg(feature = "sqlite")]
        if error
            .as_error()
            .downcast_ref::<sqlx::sqlite::SqliteError>()
            .is_some()
        {
            return code.parse().ok().and_then(loss_of_result_code);
        }
        None
    }

    /// Whether an error is one of the values, by the database's code.
    pub(super) fn is_of_values(error: &sqlx::Error) -> bool {
        let Some(error) = error.as_database_error() else {
            return false;
        };
        let Some(code) = error.code() else {
            return false;
        };
        #[cfg(feature = "postgres")]
        if error
            .as_error()
            .downcast_ref::<sqlx::postgres::PgDatabaseError>()
            .is_some()
        {
            return is_about_values(&code);
        }
        #[cfg(feature = "sqlite")]
        if error
            .as_error()
            .downcast_ref::<sqlx::sqlite::SqliteError>()
            .is_some()
        {
            return code.parse().is_ok_and(result_code_is_about_values);
        }
        false
    }

    /// By class: 22 data, 23 constraints, 44 a view's check, 54 the program's limits, P0 what a
    /// trigger raises.
    #[cfg(feature = "postgres")]
    pub(super) fn is_about_values(sqlstate: &str) -> bool {
        let class = sqlstate.get(..2);
        matches!(class, Some("22" | "23" | "44" | "54" | "P0"))
    }

    /// By primary code; ERROR is also what SQLite's functions say of a value.
    #[cfg(feature = "sqlite")]
    fn result_code_is_about_values(code: i32) -> bool {
        const ERROR: i32 = 1;
        const TOOBIG: i32 = 18;
        const CONSTRAINT: i32 = 19;
        const MISMATCH: i32 = 20;

        matches!(code & 0xff, ERROR | TOOBIG | CONSTRAINT | MISMATCH)
    }

    /// By class: 08 connection, 53 resources, 57P operator intervention, 58 the system's own
    /// errors; and 25006 a standby that takes no writes, 57014 a statement that was cancelled or
    /// took too long.
    #[cfg(feature = "postgres")]
    pub(super) fn loss_of_sqlstate(code: &str) -> Option<LossKind> {
        match code {
            "40001" | "40P01" => Some(LossKind::Conflict),
            "25006" | "25P03" | "55P03" | "57014" | "57P01" | "57P02" | "57P03" => {
                Some(LossKind::Infrastructure)
            }
            _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("58") => {
                Some(LossKind::Infrastructure)
            }
            _ => None,
        }
    }

    /// By primary code: the low byte of the extended one.
    #[cfg(feature = "sqlite")]
    pub(super) fn loss_of_result_code(code: i32) -> Option<LossKind> {
        const BUSY: i32 = 5;
        const LOCKED: i32 = 6;
        const NOMEM: i32 = 7;
        const IOERR: i32 = 10;
        const FULL: i32 = 13;
        const CANTOPEN: i32 = 14;

        match code & 0xff {
            BUSY | LOCKED => Some(LossKind::Conflict),
            NOMEM | IOERR | FULL | CANTOPEN => Some(LossKind::Infrastructure),
            _ => None,
        }
    }
}

#[cfg(all(test, any(feature = "postgres", feature = "sqlite")))]
mod tests {
    use super::*;
    use crate::handler::failure::links;

    fn in_answer(error: &(dyn StdError + 'static)) -> Option<LossKind> {
        links(error).find_map(infrastructure_in_answer)
    }

    #[derive(Debug, thiserror::Error)]
    enum StockError {
        #[error(transparent)]
        Transparent(#[from] sqlx::Error),
        #[error("stock could not be read")]
        Named(#[source] sqlx::Error),
        #[error("out of stock")]
        Empty,
    }

    fn lost_connection() -> sqlx::Error {
        std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
    }

    #[test]
    fn a_lost_connection_is_found_in_a_handlers_own_error() {
        let error = StockError::Named(lost_connection());

        assert_eq!(in_answer(&error), Some(LossKind::Infrastructure));
    }

    #[test]
    fn an_error_of_the_handlers_own_is_not_the_infrastructures() {
        assert_eq!(in_answer(&StockError::Empty), None);
        assert_eq!(
            in_answer(&StockError::Transparent(sqlx::Error::RowNotFound)),
            None
        );
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn sqlstates_are_told_apart() {
        let loss = database::loss_of_sqlstate;

        assert_eq!(loss("40001"), Some(LossKind::Conflict));
        assert_eq!(loss("40P01"), Some(LossKind::Conflict));
        assert_eq!(loss("08006"), Some(LossKind::Infrastructure));
        assert_eq!(loss("57P01"), Some(LossKind::Infrastructure));
        assert_eq!(loss("53300"), Some(LossKind::Infrastructure));
        assert_eq!(loss("25006"), Some(LossKind::Infrastructure));
        assert_eq!(loss("57014"), Some(LossKind::Infrastructure));
        assert_eq!(loss("23505"), None);
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn what_passes_by_itself_is_not_about_the_values() {
        let about_values = database::is_about_values;

        assert!(["22001", "22P05", "23514", "54001", "P0001"].map(about_values) == [true; 5]);
        assert!(["57014", "42501", "42P01", "XX000", "40001"].map(about_values) == [false; 5]);
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn a_busy_database_is_found_behind_a_transparent_error() {
        use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

        let folder = std::env::temp_dir().join(format!("eventflow-{}", uuid::Uuid::now_v7()));
        let options = SqliteConnectOptions::new()
            .filename(&folder)
            .create_if_missing(true)
            .busy_timeout(std::time::Duration::ZERO);
        let mut holder = SqliteConnection::connect_with(&options).await.unwrap();
        let mut other = SqliteConnection::connect_with(&options).await.unwrap();
        let _held = holder.begin_with("BEGIN IMMEDIATE").await.unwrap();

        let busy = other.begin_with("BEGIN IMMEDIATE").await.err().unwrap();
        std::fs::remove_file(&folder).unwrap();

        let error = StockError::Transparent(busy);
        assert!(error.source().is_some(), "the chain skips `sqlx::Error`");
        assert_eq!(in_answer(&error), Some(LossKind::Conflict));
    }
}

//! PostgreSQL: a table's name, its migrations, and connections that are told how to behave.

pub(crate) mod connection;
pub(crate) mod history;
pub(crate) mod lease;
pub(crate) mod migration_lock;
pub(crate) mod parameters;
pub(crate) mod place;
pub(crate) mod schema;
pub(crate) mod session;
pub(crate) mod table;

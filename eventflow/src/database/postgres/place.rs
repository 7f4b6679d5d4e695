//! Where a table is: the database, the schema, the name.

use std::{str::FromStr as _, time::Duration};

use sqlx::{ConnectOptions as _, PgPool, postgres::PgConnectOptions};

use super::{session::Session, table::Table};
use crate::{
    database::{error::failed, identifier::Identifier},
    error::{Error, ErrorKind},
};

/// A handler's time on a connection that no consumer has asked for.
const LONGEST_HANDLER: Duration = Duration::from_secs(30);

/// The settings of a table's place.
#[derive(Clone)]
pub(crate) struct Place {
    source: Source,
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
    pub(crate) session: Session,
}

#[derive(Clone)]
enum Source {
    Url(String),
    Pool(PgPool),
}

/// What a place leads to.
pub(crate) struct Connected {
    pub(crate) pool: PgPool,
    /// How to open connections; none if the pool is the user's.
    pub(crate) options: Option<PgConnectOptions>,
    pub(crate) table: Table,
    pub(crate) session: Session,
}

impl Place {
    fn new(source: Source, table: &str) -> Self {
        Self {
            source,
            schema: None,
            table: table.to_owned(),
            session: Session {
                options: true,
                statement_timeout: Duration::from_secs(30),
                lock_timeout: Duration::from_secs(5),
            },
        }
    }

    pub(crate) fn url(url: &str, table: &str) -> Self {
        Self::new(Source::Url(url.to_owned()), table)
    }

    pub(crate) fn pool(pool: PgPool, table: &str) -> Self {
        let mut place = Self::new(Source::Pool(pool), table);
        // Its connections were opened by someone else, and may be a pooler's.
        place.session.options = false;
        place
    }

    /// Connects, with so many connections if the pool is not the user's. Errors that are not about the
    /// settings are of `kind`.
    pub(crate) async fn connect(
        self,
        connections: u32,
        kind: ErrorKind,
    ) -> Result<Connected, Error> {
        let table = self.table()?;
        let (options, pool) = match self.source {
            Source::Pool(pool) => (None, pool),
            Source::Url(url) => {
                let options = PgConnectOptions::from_str(&url).map_err(|error| {
                    Error::configuration("the URL of the database cannot be read; use `postgres://user:password@host:port/database`")
                        .with_source(error)
                })?;
                let pool = self.session.pool(&options, connections, LONGEST_HANDLER);
                (Some(options), pool)
            }
        };
        if let Err(error) = pool.acquire().await {
            let (what, error) = match &options {
                Some(options) => (unreachable(options), cause(options, error).await),
                None => (
                    "the database of the pool cannot be reached".to_owned(),
                    error,
                ),
            };
            return Err(failed(kind, what, error));
        }
        Ok(Connected {
            pool,
            options,
            table,
            session: self.session,
        })
    }

    pub(crate) fn table(&self) -> Result<Table, Error> {
        let schema = self.schema.as_deref();
        let schema = schema.map(|schema| Identifier::new("schema", schema));
        Ok(Table {
            schema: schema.transpose()?,
            name: Identifier::new("table", &self.table)?,
        })
    }
}

/// How long the server may take to say why it cannot be reached.
const CAUSE_WITHIN: Duration = Duration::from_secs(1);

fn unreachable(options: &PgConnectOptions) -> String {
    let server = options.get_socket().map_or_else(
        || format!("{}:{}", options.get_host(), options.get_port()),
        |socket| socket.display().to_string(),
    );
    format!("the database cannot be reached at {server}")
}

/// Why no connection was to be had. A pool tries again until its time is over, and says no more than that.
async fn cause(options: &PgConnectOptions, error: sqlx::Error) -> sqlx::Error {
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error;
    }
    match tokio::time::timeout(CAUSE_WITHIN, options.connect()).await {
        Ok(Err(cause)) => cause,
        // By now it can be reached, or it says nothing.
        Ok(Ok(_)) | Err(_) => error,
    }
}

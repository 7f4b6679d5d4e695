//! Leases between processes: who has one does a piece of work that only one may do at a time.
//!
//! A lease ends by itself unless it is extended; each holder has a term, which grows. All times are
//! the database's, whose statements stand beside its other ones.

/// Makes `Leases` of a database: from its connection, the name of a table, and the statements `ACQUIRE`,
/// `EXTEND` and `RELEASE`, to which `named` gives the name of their table.
macro_rules! leases {
    ($Connection:ty, $Table:ty) => {
        /// The statements of the leases that go with a table.
        #[derive(Debug)]
        pub(crate) struct Leases {
            acquire: Sql,
            extend: Sql,
            release: Sql,
        }

        impl Leases {
            pub(crate) fn of(table: &$Table) -> Self {
                let sql = |template| Sql::new(named(template, table));
                Self {
                    acquire: sql(ACQUIRE),
                    extend: sql(EXTEND),
                    release: sql(RELEASE),
                }
            }

            /// Takes a lease that nobody else holds; answers its term.
            pub(crate) async fn acquire(
                &self,
                connection: &mut $Connection,
                name: &str,
                holder: &str,
                time: Duration,
            ) -> Result<Option<i64>, sqlx::Error> {
                sqlx::query_scalar(self.acquire.text())
                    .bind(name)
                    .bind(holder)
                    .bind(micros(time))
                    .fetch_optional(connection)
                    .await
            }

            /// Makes a lease last for `time` from now on; answers whether it is still the holder's.
            pub(crate) async fn extend(
                &self,
                connection: &mut $Connection,
                name: &str,
                holder: &str,
                term: i64,
                time: Duration,
            ) -> Result<bool, sqlx::Error> {
                let extend = sqlx::query(self.extend.text())
                    .bind(name)
                    .bind(holder)
                    .bind(term)
                    .bind(micros(time));
                let extended = extend.execute(connection).await?;
                Ok(extended.rows_affected() > 0)
            }

            /// Ends a lease, for others to take at once.
            pub(crate) async fn release(
                &self,
                connection: &mut $Connection,
                name: &str,
                holder: &str,
                term: i64,
            ) -> Result<(), sqlx::Error> {
                let release = sqlx::query(self.release.text())
                    .bind(name)
                    .bind(holder)
                    .bind(term);
                release.execute(connection).await.map(|_| ())
            }

            /// Takes leases that nobody else holds, all or none; answers their terms. To be run in a transaction.
            pub(crate) async fn acquire_all(
                &self,
                connection: &mut $Connection,
                names: &[String],
                holder: &str,
                time: Duration,
            ) -> Result<Option<Vec<i64>>, sqlx::Error> {
                let mut terms = Vec::with_capacity(names.len());
                for name in names {
                    let Some(term) = self.acquire(connection, name, holder, time).await? else {
                        // Those that were taken before it lapse at once.
                        self.release_all(connection, names, holder, &terms).await?;
                        return Ok(None);
                    };
                    terms.push(term);
                }
                Ok(Some(terms))
            }

            /// Makes leases last for `time` from now on; answers whether all are still the holder's.
            pub(crate) async fn extend_all(
                &self,
                connection: &mut $Connection,
                names: &[String],
                holder: &str,
                terms: &[i64],
                time: Duration,
            ) -> Result<bool, sqlx::Error> {
                for (name, term) in names.iter().zip(terms) {
                    if !self.extend(connection, name, holder, *term, time).await? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }

            /// Ends leases, for others to take at once.
            pub(crate) async fn release_all(
                &self,
                connection: &mut $Connection,
                names: &[String],
                holder: &str,
                terms: &[i64],
            ) -> Result<(), sqlx::Error> {
                for (name, term) in names.iter().zip(terms) {
                    self.release(connection, name, holder, *term).await?;
                }
                Ok(())
            }
        }
    };
}

pub(crate) use leases;

//! The pool of connections, with a share of it for each caller ([`crate::limits::turns`]): a statement waits for a turn of
//! its caller, then for a connection, which the driver hands out in the order in which it is asked.

use super::StoreError;
use crate::limits::turns::{self, NoTurn, Turn};
use futures::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Describe, Either, Error, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
    Transaction,
    pool::PoolConnection,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use std::{
    io,
    ops::{Deref, DerefMut},
};

/// The pool. Statements are run on it as they are on the driver's.
#[derive(Clone, Debug)]
pub struct SharedPool {
    pool: PgPool,
}

/// A connection that was taken from the pool. Dropped, it goes back.
#[derive(Debug)]
pub struct SharedConnection {
    connection: PoolConnection<Postgres>,
    _turn: Turn,
}

/// A transaction on such a connection. Dropped, it is rolled back.
#[derive(Debug)]
pub struct SharedTransaction {
    transaction: Transaction<'static, Postgres>,
    _turn: Turn,
}

impl SharedPool {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// A connection, for more than one statement.
    ///
    /// # Errors
    /// [`StoreError::NoTurn`] or [`StoreError::Unavailable`], each after ten seconds.
    pub async fn acquire(&self) -> Result<SharedConnection, StoreError> {
        Ok(self.take().await?)
    }

    /// Begins a transaction with this statement.
    ///
    /// In a task of its own: a call may go away at any moment, and where a begin is dropped while its answer is on the
    /// way, the driver hands the connection out again with the transaction open.
    pub(super) async fn begin(
        &self,
        statement: &'static str,
    ) -> Result<SharedTransaction, StoreError> {
        let turn = turns::connection().await?;
        let pool = self.pool.clone();
        let begun = tokio::spawn(async move { pool.begin_with(statement).await }).await;
        match begun {
            Ok(begun) => Ok(SharedTransaction {
                transaction: begun?,
                _turn: turn,
            }),
            // the runtime ends
            Err(_) => Err(StoreError::Unavailable(Error::WorkerCrashed)),
        }
    }

    /// Connections that are open, and those of them that nobody uses.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.pool.size() as usize, self.pool.num_idle())
    }

    /// Closes the pool, waiting for what is under way.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// As [`SharedPool::acquire`], in the driver's words.
    async fn take(&self) -> Result<SharedConnection, Error> {
        let turn = turns::connection().await.map_err(no_turn)?;
        Ok(SharedConnection {
            connection: self.pool.acquire().await?,
            _turn: turn,
        })
    }
}

impl SharedTransaction {
    /// Commits it.
    ///
    /// # Errors
    /// Any [`StoreError`]; after one of them it is not known whether it was committed.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}

impl Deref for SharedConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for SharedConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Deref for SharedTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for SharedTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

impl<'c> Executor<'c> for &'_ SharedPool {
    type Database = Postgres;

    /// All rows are read before the first is handed on, so whoever is slow to take them keeps no connection.
    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let read = async move {
            let mut connection = pool.take().await?;
            let rows: Vec<_> = connection.fetch_many(query).try_collect().await?;
            Ok::<_, Error>(stream::iter(rows).map(Ok))
        };
        read.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        async move { pool.take().await?.fetch_optional(query).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        let pool = self.clone();
        async move { pool.take().await?.prepare_with(sql, parameters).await }.boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'c: 'e,
    {
        let pool = self.clone();
        async move { pool.take().await?.describe(sql).await }.boxed()
    }
}

/// What waits through the driver learns of it as of an error of the driver's.
fn no_turn(error: NoTurn) -> Error {
    Error::Io(io::Error::other(error))
}

/// What was refused, if an error of the driver's is ours.
pub(super) fn find_no_turn(error: &Error) -> Option<NoTurn> {
    match error {
        Error::Io(error) => error.get_ref()?.downcast_ref().copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_did_not_come_is_told_from_a_database_that_is_away() {
        let refused = NoTurn { what: "calls" };
        assert!(matches!(
            StoreError::from(no_turn(refused)),
            StoreError::NoTurn(told) if told == refused
        ));
        let broken = Error::Io(io::Error::other("broken pipe"));
        assert!(matches!(
            StoreError::from(broken),
            StoreError::Unavailable(_)
        ));
    }
}

//! A transaction whose statements have deadlines.

use std::ops::{Deref, DerefMut};

use sqlx::Executor;

use super::connection::Connection;

/// Rolled back when it is dropped. Statements run on `&mut *transaction`.
#[derive(Debug)]
pub struct Transaction(Connection);

impl Transaction {
    pub(super) async fn begin(mut connection: Connection) -> sqlx::Result<Self> {
        connection.execute("begin").await?;
        connection.is_in_transaction = true;
        Ok(Self(connection))
    }

    /// # Errors
    /// If Postgres refuses, or does not answer: then nobody knows whether it committed.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        self.0.execute("commit").await?;
        self.0.is_in_transaction = false;
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

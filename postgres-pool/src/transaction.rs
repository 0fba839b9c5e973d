//! A transaction whose statements have deadlines.

use std::ops::{Deref, DerefMut};

use super::connection::Connection;

/// Rolled back when it is dropped. Statements run on `&mut *transaction`.
#[derive(Debug)]
pub struct Transaction(Connection);

impl Transaction {
    pub(super) async fn begin(mut connection: Connection) -> sqlx::Result<Self> {
        connection.begin_explicit().await?;
        Ok(Self(connection))
    }

    /// # Errors
    /// If Postgres refuses, or does not answer: then nobody knows whether it committed.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        self.0.commit().await
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

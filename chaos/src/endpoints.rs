//! Where everything is.

/// What clients ask leads through proxies; the other addresses lead to the servers themselves.
#[derive(Debug, Clone)]
pub(crate) struct Endpoints {
    pub(crate) users: Vec<String>,
    pub(crate) notifications: Vec<String>,
    pub(crate) users_direct: Vec<String>,
    pub(crate) notifications_direct: Vec<String>,
    /// Whatever server is the primary.
    pub(crate) postgres: String,
    pub(crate) nats: String,
    pub(crate) mongodb: String,
    pub(crate) mongodb_database: String,
    pub(crate) stream: String,
    pub(crate) consumer: String,
}

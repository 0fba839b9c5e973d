//! The whole service: built, then run.

mod api;

use std::{future::ready, net::SocketAddr, time::Duration};

use axum::middleware;
use event_consumer::{EventConsumer, Holes, Lag};
use serde_json::Value;
use service_runtime::{
    health::{self, Check},
    http::{self, HttpSettings, Routes},
    progress::Progress,
    tasks::Tasks,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::api::API;
use crate::{
    config::ServeConfig,
    dead_letters::{self, api::Source},
    holes, lag,
    live::{self, Live},
    mongo,
    notifications::{self, Reader},
    projection::{MongoPositionStore, Projection},
    projector::Projector,
};

/// Longer than a write may take, and than JetStream may be silent.
const MAX_PROJECTOR_SILENCE: Duration = Duration::from_secs(15);

/// # Errors
/// If the service can't start, or does not end in good order.
pub async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    App::build(config).await?.run().await
}

/// The description of the API, as `/openapi.json` has it.
#[must_use]
pub fn openapi() -> Value {
    let mut routes = Routes {
        health: health::router(vec![]),
        ..notifications::routes()
    };
    let letters = dead_letters::api::router().into_openapi();
    routes.bounded.get_openapi_mut().merge(letters);
    let holes = holes::router().into_openapi();
    routes.bounded.get_openapi_mut().merge(holes);
    routes.document(&API)
}

/// A service that listens already and waits to be run.
pub struct App {
    listener: TcpListener,
    routes: Routes,
    http_settings: HttpSettings,
    projector: EventConsumer<Projector>,
    live: Live,
    tasks: Tasks,
    drain_timeout: Duration,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl App {
    /// Takes hold of the port and checks the settings. MongoDB and NATS need not be there yet.
    ///
    /// # Errors
    /// If the port is taken or a setting is not valid.
    pub async fn build(config: ServeConfig) -> anyhow::Result<Self> {
        let listener = http::bind(config.listen.listen_addr).await?;
        let client = mongo::client(&config.mongo.mongodb_uri).await?;
        let database = client.database(&config.mongo.mongodb_database);
        let collection = config.mongo.mongodb_collection;

        let projection = Projection::new(database.clone(), collection.clone());
        let mut tasks = Tasks::new();
        let stall_timeout = config.process.stall_timeout;
        let shutdown = tasks.shutdown();
        tasks.spawn_watched("index", stall_timeout, |progress| {
            projection.clone().keep_living_indexed(progress, shutdown)
        });
        let topic = config.projector.nats.topic();
        let consumer = config.projector.nats.consumer.clone();
        let positions = MongoPositionStore::new(&database, &collection);
        let holes = Holes::new(positions.clone(), topic.clone(), consumer.clone());
        let progress = Progress::new("projector");
        let projector = EventConsumer::new(
            config.projector.consumer_settings(),
            Projector::new(projection, config.mongo.tombstone_ttl),
            progress.clone(),
        )
        .with_holes(holes.clone());
        let (connection, shutdown) = (projector.connection(), tasks.shutdown());
        tasks.spawn_watched("holes", stall_timeout, |progress| {
            holes.clone().observe(connection, progress, shutdown)
        });
        tasks.watch(&progress, stall_timeout);
        let mut checks = vec![
            Check::new("mongodb", {
                let database = database.clone();
                move || {
                    let ping = mongo::ping(database.clone());
                    async move { Ok(ping.await?) }
                }
            }),
            progress.check(MAX_PROJECTOR_SILENCE),
            Check::new("holes", move || ready(holes.check())),
        ];
        let lag = Lag::new();
        if let Some(limit) = config.max_lag {
            let lag = lag.clone();
            checks.push(Check::new("lag", move || ready(lag.check(limit))));
        }
        let (connection, shutdown) = (projector.connection(), tasks.shutdown());
        tasks.spawn_watched("lag", stall_timeout, |progress| {
            let (topic, consumer) = (topic.clone(), consumer.clone());
            (lag.clone()).observe(connection, topic, consumer, progress, shutdown)
        });
        let copy = database.collection(&collection);
        let client =
            mongo::change_stream_client(&config.mongo.mongodb_uri, live::MAX_STREAMS).await?;
        let database = client.database(&config.mongo.mongodb_database);
        let live = Live::new(database.collection(&collection), tasks.shutdown());
        let stamp = middleware::map_response_with_state(lag, lag::stamp);
        let reader = Reader::new(copy, live.clone(), &config.limits);
        let letters = Source {
            connection: projector.connection(),
            topic,
            consumer,
        };
        let notifications = notifications::routes().with_state(reader);
        let letters = dead_letters::api::router().with_state(letters);
        let holes = holes::router().with_state(positions);
        let routes = Routes {
            bounded: notifications
                .bounded
                .layer(stamp.clone())
                .merge(letters)
                .merge(holes),
            streaming: notifications.streaming.layer(stamp),
            health: health::router(checks),
        };
        Ok(Self {
            listener,
            routes,
            http_settings: config.http,
            projector,
            live,
            tasks,
            drain_timeout: config.process.drain_timeout,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the operating system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Cancel it to stop the service as SIGTERM does.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.tasks.shutdown()
    }

    /// Serves and projects until told to stop.
    ///
    /// # Errors
    /// If a part fails for good, or does not finish what it has in hand within the drain timeout.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let shutdown = self.tasks.shutdown();
        // Half the time, so that what hangs is cut in good order before the drain itself is.
        let grace = self.drain_timeout / 2;
        let projector = self.projector.run(shutdown.clone(), grace);
        self.tasks.spawn("projector", projector);
        self.tasks.spawn("live", self.live.run());
        let serving = http::serve(
            self.listener,
            self.routes,
            &API,
            self.http_settings,
            shutdown,
            grace,
        );
        self.tasks.spawn("http", serving);
        self.tasks.run(self.drain_timeout).await
    }
}

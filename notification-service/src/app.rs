//! The whole service: built, then run.

mod api;

use std::{future::ready, net::SocketAddr, sync::Arc, time::Duration};

use event_consumer::{EventConsumer, Holes, Lag};
use serde_json::Value;
use service_runtime::{
    health::Check,
    http::{self, Feed, HttpSettings, Routes},
    metrics,
    nats::{ConsumerName, Topic},
    operator,
    progress::{Progress, StallTimeout},
    tasks::Tasks,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::util::MapResponseLayer;

pub use self::api::API;
use crate::{
    config::{MongoConfig, ServeConfig},
    consumer::{self, Figures, RecentEvents},
    dead_letters::{self, api::Source},
    holes, lag,
    live::{self, Live},
    mongo::{self, Pool},
    notifications::{self, Copy, Reader},
    projection::{MongoPositionStore, Projection},
    projector::Projector,
    verification::{self, Known, Store, Verification},
};

/// Longer than a write may take, and than JetStream may be silent.
const MAX_PROJECTOR_SILENCE: Duration = Duration::from_secs(15);
/// To MongoDB, of requests, unless its URI says how many.
const REQUEST_CONNECTIONS: u32 = 20;
/// To MongoDB, of the projector, of what is looked at now and then, and of the check: a few for each, so
/// that none waits for an index that is being made, or for a call that is late.
const PROJECTOR_CONNECTIONS: u32 = 8;
/// To MongoDB, of the verification: it reads in turns, and keeps its lease meanwhile.
const VERIFICATION_CONNECTIONS: u32 = 2;

/// # Errors
/// If the service can't start, or does not end in good order.
pub async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    App::build(config).await?.run().await
}

/// The description of the API, as `/openapi.json` has it.
#[must_use]
pub fn openapi() -> Value {
    let mut routes = Routes {
        health: operator::description(),
        ..notifications::routes()
    };
    let letters = dead_letters::api::router().into_openapi();
    routes.bounded.get_openapi_mut().merge(letters);
    let holes = holes::router().into_openapi();
    routes.bounded.get_openapi_mut().merge(holes);
    let verification = verification::router().into_openapi();
    routes.bounded.get_openapi_mut().merge(verification);
    let consumer = consumer::routes();
    let (bounded, streaming) = (consumer.bounded, consumer.streaming);
    routes
        .bounded
        .get_openapi_mut()
        .merge(bounded.into_openapi());
    routes
        .streaming
        .get_openapi_mut()
        .merge(streaming.into_openapi());
    routes.document(&API)
}

/// A service that listens already and waits to be run.
pub struct App {
    listener: TcpListener,
    routes: Routes,
    http_settings: HttpSettings,
    projector: EventConsumer<Projector>,
    projection: Projection,
    holes: Holes<MongoPositionStore>,
    lag: Lag,
    topic: Topic,
    consumer: ConsumerName,
    live: Live,
    feed: consumer::Source,
    verification: Option<Verification>,
    known: Known,
    verification_store: Store,
    tasks: Tasks,
    stall_timeout: StallTimeout,
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
        let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        let lists = [event_consumer::metrics::METRICS, crate::metrics::METRICS];
        metrics::install(&config.metrics, name, version, &lists);
        let listener = http::bind(config.listen.listen_addr).await?;
        let (uri, collection) = (&config.mongo.mongodb_uri, &config.mongo.mongodb_collection);
        let database_name = &config.mongo.mongodb_database;
        let pool = Pool::open(uri, database_name, PROJECTOR_CONNECTIONS).await?;
        let requests = Pool::open_for_requests(uri, database_name, REQUEST_CONNECTIONS).await?;
        let streams = mongo::change_stream_client(uri, live::MAX_STREAMS).await?;
        let topic = config.projector.nats.topic();
        let consumer = config.projector.nats.consumer.clone();
        let mut tasks = Tasks::new();
        config.process.start_traces(&mut tasks)?;

        let projection = Projection::new(pool.clone(), collection.clone());
        let positions = MongoPositionStore::new(&pool, collection);
        let holes = Holes::new(positions, topic.clone(), consumer.clone());
        let lag = Lag::new();
        let recent = RecentEvents::default();
        let progress = Progress::new("projector");
        let stall_timeout = config.process.stall_timeout;
        tasks.watch(&progress, stall_timeout);
        let projector = EventConsumer::new(
            config.projector.consumer_settings(),
            Projector::new(
                projection.clone(),
                config.mongo.tombstone_ttl,
                recent.clone(),
            ),
            progress.clone(),
        )
        .with_holes(holes.clone());

        let streams = mongo::primary(&streams.database(database_name), collection);
        let live = Live::new(streams, tasks.shutdown());
        let reader = Reader::new(&requests, collection, live.clone(), &config.limits);
        let letters = Source {
            connection: projector.connection(),
            topic: topic.clone(),
            consumer: consumer.clone(),
        };
        let verification = verification(&config, lag.clone()).await?;
        let verification_store = Store::new(&pool, collection);
        let shown = verification::Shown {
            projection: Projection::new(requests.clone(), collection.clone()),
            store: Store::new(&requests, collection),
        };
        let shown_positions = MongoPositionStore::new(&requests, collection);
        let known = Known::default();
        let feed = consumer::Source {
            feed: Feed::new(config.limits.followers(), tasks.shutdown()),
            recent,
            figures: Figures {
                consumer: consumer.clone(),
                connection: projector.connection(),
                lag: lag.clone(),
                holes: holes.clone(),
                verification: known.clone(),
                ping: mongo::check(pool.clone()),
            },
        };
        let watched = consumer::routes().with_state(feed.watched());
        let ping = mongo::check(pool);
        let checks = checks(ping, &progress, &holes, &lag, config.max_lag);
        let stamp = MapResponseLayer::new({
            let lag = lag.clone();
            move |response| lag::stamp(&lag, response)
        });
        let notifications = notifications::routes().with_state(Arc::new(reader));
        let routes = Routes {
            bounded: notifications
                .bounded
                .layer(stamp.clone())
                .merge(dead_letters::api::router().with_state(letters))
                .merge(holes::router().with_state(shown_positions))
                .merge(verification::router().with_state(shown))
                .merge(watched.bounded),
            streaming: notifications
                .streaming
                .layer(stamp)
                .merge(watched.streaming),
            health: operator::router(checks, &config.metrics, listener.local_addr()?)?,
            ..Routes::default()
        };
        Ok(Self {
            listener,
            routes,
            http_settings: config.http,
            projector,
            projection,
            holes,
            lag,
            topic,
            consumer,
            live,
            feed,
            verification,
            known,
            verification_store,
            tasks,
            stall_timeout,
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
        self.spawn_observers(&shutdown);
        // Half the time, so that what hangs is cut in good order before the drain itself is.
        let grace = self.drain_timeout / 2;
        let projector = self.projector.run(shutdown.clone(), grace);
        self.tasks.spawn("projector", projector);
        (self.tasks).spawn_watched("change stream", self.stall_timeout, |progress| {
            self.live.run(progress)
        });
        (self.tasks).spawn_watched("consumer feed", self.stall_timeout, |progress| {
            self.feed.run(progress)
        });
        if let Some(verification) = self.verification {
            let stop = shutdown.clone();
            (self.tasks).spawn_watched("verification", self.stall_timeout, |progress| {
                verification.run(progress, stop)
            });
        }
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

    /// What looks now and then.
    fn spawn_observers(&mut self, shutdown: &CancellationToken) {
        let (tasks, stall_timeout) = (&mut self.tasks, self.stall_timeout);
        tasks.spawn_watched("index", stall_timeout, |progress| {
            let projection = self.projection.clone();
            projection.keep_living_indexed(progress, shutdown.clone())
        });
        let connection = self.projector.connection();
        tasks.spawn_watched("holes", stall_timeout, |progress| {
            let holes = self.holes.clone();
            holes.observe(connection.clone(), progress, shutdown.clone())
        });
        tasks.spawn_watched("lag", stall_timeout, |progress| {
            let (topic, consumer) = (self.topic.clone(), self.consumer.clone());
            let lag = self.lag.clone();
            lag.observe(connection, topic, consumer, progress, shutdown.clone())
        });
        let verifies = self.verification.is_some();
        tasks.spawn_watched("verification sample", stall_timeout, |progress| {
            let (known, store) = (self.known.clone(), self.verification_store.clone());
            known.observe(store, verifies, progress, shutdown.clone())
        });
    }
}

/// With connections of its own: the projector and readers wait for none of them.
async fn verification(config: &ServeConfig, lag: Lag) -> anyhow::Result<Option<Verification>> {
    let settings = config.verification.clone();
    let Some(users) = settings.verify_users.clone() else {
        return Ok(None);
    };
    let MongoConfig {
        mongodb_uri: uri,
        mongodb_database: name,
        mongodb_collection: collection,
        ..
    } = &config.mongo;
    let pool = Pool::open(uri, name, VERIFICATION_CONNECTIONS).await?;
    Verification::new(
        &users,
        settings,
        Copy::new(&pool, collection),
        Projection::new(pool.clone(), collection.clone()),
        MongoPositionStore::new(&pool, collection),
        Store::new(&pool, collection),
        lag,
    )
    .map(Some)
}

fn checks(
    ping: Check,
    progress: &Progress,
    holes: &Holes<MongoPositionStore>,
    lag: &Lag,
    max_lag: Option<Duration>,
) -> Vec<Check> {
    let (holes, lag) = (holes.clone(), lag.clone());
    let holes = Check::new("holes", move || ready(holes.check()));
    let delivering = lag.clone();
    let deliveries = Check::new("deliveries", move || ready(delivering.check_deliveries()));
    let projector = progress.check(MAX_PROJECTOR_SILENCE);
    let mut checks = vec![ping, projector, deliveries, holes];
    if let Some(limit) = max_lag {
        checks.push(Check::new("lag", move || ready(lag.check(limit))));
    }
    checks
}

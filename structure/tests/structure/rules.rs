//! The rules. A module is written as its file without `.rs`, and stands for what is below it too.

/// What may stand only in some modules.
pub(crate) struct Place {
    pub(crate) what: &'static str,
    pub(crate) is_it: Matcher,
    pub(crate) scope: Scope,
    pub(crate) allowed_in: &'static [&'static str],
    pub(crate) why: &'static str,
}

/// The files that a rule is about.
pub(crate) enum Scope {
    /// The libraries and services, without their tests.
    Production,
    /// Tests, wherever they are.
    Tests,
}

pub(crate) enum Matcher {
    /// A path that begins so.
    Path(&'static [&'static str]),
    /// A call of one of these functions, not of the macro of the same name.
    Function(&'static [&'static str]),
    /// A string that begins as an SQL statement does.
    SqlText,
}

/// The packages that services are built from. Those in `examples/` are treated alike.
pub(crate) const PRODUCTION: &[&str] = &[
    "shared-events",
    "service-runtime",
    "postgres-pool",
    "outbox",
    "event-consumer",
    "user-service",
    "notification-service",
];

pub(crate) const PLACES: &[Place] = &[
    Place {
        what: "SQL",
        is_it: Matcher::Path(&[
            "sqlx::query",
            "sqlx::query_as",
            "sqlx::query_scalar",
            "sqlx::query_with",
            "sqlx::query_file",
            "sqlx::query_file_as",
            "sqlx::query_file_scalar",
            "sqlx::raw_sql",
            "sqlx::AssertSqlSafe",
            "sqlx::QueryBuilder",
        ]),
        scope: Scope::Production,
        allowed_in: SQL_MODULES,
        why: "statements stand beside the schema's rules that they rely on, so that a migration \
              has few places to look at",
    },
    Place {
        what: "the text of an SQL statement",
        is_it: Matcher::SqlText,
        scope: Scope::Production,
        allowed_in: SQL_MODULES,
        why: "a statement is SQL however it is sent",
    },
    Place {
        what: "SQL that is not checked when it is compiled",
        is_it: Matcher::Function(&[
            "sqlx::query",
            "sqlx::query_as",
            "sqlx::query_scalar",
            "sqlx::query_with",
            "sqlx::raw_sql",
            "sqlx::AssertSqlSafe",
        ]),
        scope: Scope::Production,
        allowed_in: DYNAMIC_SQL_MODULES,
        why: "`sqlx::query!` finds at compile time what would fail at run time; what cannot be checked \
              (names that are computed, settings of a session) says so where it stands",
    },
    Place {
        what: "MongoDB and BSON",
        is_it: Matcher::Path(&["mongodb", "bson"]),
        scope: Scope::Production,
        allowed_in: &[
            "notification-service/src/mongo",
            "notification-service/src/projection",
            "notification-service/src/notifications",
            "notification-service/src/live",
        ],
        why: "the form of documents is known to the projection and to its readers only",
    },
    Place {
        what: "the driver of Postgres",
        is_it: Matcher::Path(&[
            "sqlx::PgPool",
            "sqlx::postgres::PgPoolOptions",
            "sqlx::Pool",
        ]),
        scope: Scope::Production,
        allowed_in: &["postgres-pool/src"],
        why: "sqlx's own pool waits without bound for connections that have died silently",
    },
    Place {
        what: "a task of nobody",
        is_it: Matcher::Path(&["tokio::spawn", "tokio::task::spawn", "task::spawn"]),
        scope: Scope::Production,
        allowed_in: &[
            // The driver's calls must not be dropped half-way, so a late one goes on by itself.
            "notification-service/src/mongo",
            "notification-service/src/live/catch_up",
        ],
        why: "`Tasks` waits for its tasks at shutdown and ends the process if one of them fails",
    },
    Place {
        what: "a sleep in a test",
        is_it: Matcher::Path(&["tokio::time::sleep", "time::sleep", "std::thread::sleep"]),
        scope: Scope::Tests,
        allowed_in: &[
            // A client that reads slowly.
            "service-runtime/tests/http/connections",
        ],
        why: "a test waits for a condition with a deadline (`testkit::eventually`): a fixed time is \
              too short on a busy machine and too long on every other",
    },
];

const SQL_MODULES: &[&str] = &[
    "postgres-pool/src",
    "outbox/src",
    EXAMPLES,
    "user-service/src/idempotency",
    "user-service/src/migrations",
    "user-service/src/users/store",
];

const DYNAMIC_SQL_MODULES: &[&str] = &[
    // Settings of sessions, and the table that a service's migrator names.
    "postgres-pool/src",
    // Names of partitions are computed.
    "outbox/src/partitions",
];

/// A package and those of ours that it may depend on. All have to be named.
pub(crate) struct Layer {
    pub(crate) package: &'static str,
    pub(crate) uses: &'static [&'static str],
    pub(crate) tests_use: &'static [&'static str],
}

pub(crate) const LAYERS: &[Layer] = &[
    layer("testkit", &[], &[]),
    layer("shared-events", &[], &["testkit"]),
    layer("service-runtime", &[], &["testkit"]),
    layer("postgres-pool", &["service-runtime"], &["testkit"]),
    layer(
        "outbox",
        &["postgres-pool", "service-runtime"],
        &["event-consumer", "testkit"],
    ),
    layer("event-consumer", &["service-runtime"], &["testkit"]),
    layer(
        "user-service",
        &[
            "outbox",
            "postgres-pool",
            "service-runtime",
            "shared-events",
        ],
        &["testkit"],
    ),
    layer(
        "notification-service",
        &["event-consumer", "service-runtime", "shared-events"],
        &["testkit"],
    ),
    // They start the services as programs.
    layer(
        "system-tests",
        &[],
        &[
            "protocol-model",
            "service-runtime",
            "shared-events",
            "testkit",
        ],
    ),
    layer("protocol-model", &[], &["testkit"]),
    layer("cluster-tests", &[], &[]),
    layer(
        "chaos",
        &["cluster-tests", "protocol-model", "testkit"],
        &[],
    ),
    layer(
        "benchmarks",
        &["service-runtime", "shared-events", "testkit"],
        &[],
    ),
    layer("structure", &[], &[]),
];

/// Packages in here need no rules of their own: a service of somebody else has none either.
pub(crate) const EXAMPLES: &str = "examples";

/// What they may use.
pub(crate) const EXAMPLE: Layer = layer(
    EXAMPLES,
    &[
        "event-consumer",
        "outbox",
        "postgres-pool",
        "service-runtime",
        "shared-events",
    ],
    &["testkit"],
);

const fn layer(
    package: &'static str,
    uses: &'static [&'static str],
    tests_use: &'static [&'static str],
) -> Layer {
    Layer {
        package,
        uses,
        tests_use,
    }
}

/// Dependencies that no path names, each with the reason.
pub(crate) const USED_WITHOUT_NAME: &[(&str, &str)] = &[];

/// The longest that a file may be.
pub(crate) const MAX_LINES: usize = 400;

/// Files that are longer, each with the reason.
pub(crate) const LONGER_FILES: &[(&str, &str)] = &[
    (
        "notification-service/tests/it/live.rs",
        "followers, one subject with one set-up",
    ),
    (
        "notification-service/tests/it/rebuild.rs",
        "rebuilds, one subject with one set-up",
    ),
];

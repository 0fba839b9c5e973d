//! What must hold once faults are over and both sides are idle, looked at from outside.

mod copy;
mod ledger;
mod stream;

use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use uuid::Uuid;

use self::{ledger::Ledger, stream::Stream};
use crate::{
    endpoints::Endpoints,
    history::{History, Violation},
    observers::Observers,
    sources::{
        event::{Event, Kind, User},
        mongodb::Mongodb,
        nats::{Nats, Read},
        postgres::Postgres,
    },
};

/// Whatever is not right by then is a violation.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(60);
/// A server that can't be asked for so long was not healed.
const SERVERS_DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Checker {
    state: Mutex<State>,
}

/// What was read so far; later checks read what came since.
struct State {
    postgres: Postgres,
    nats: Nats,
    mongodb: Mongodb,
    ledger: Ledger,
    stream: Stream,
    /// Of the history, when the ledger was begun.
    losses: usize,
    /// The stream may have messages of writes that the database has lost, and not those that they supersede.
    may_differ: bool,
    /// Events of the ledger that are still to come on the stream.
    unpublished: Vec<Uuid>,
    /// Users whose deletion was read since the last check.
    deleted: Vec<i64>,
    /// What must never be.
    violations: Vec<Violation>,
}

/// What all servers have at about the same time.
struct Look {
    users: HashMap<i64, User>,
    /// What must not stay so.
    open: Vec<Violation>,
}

impl Checker {
    pub(crate) async fn new(endpoints: &Endpoints) -> anyhow::Result<Self> {
        let Endpoints {
            nats,
            stream,
            consumer,
            ..
        } = endpoints;
        let state = State {
            postgres: Postgres::new(&endpoints.postgres),
            nats: Nats::connect(nats, stream, consumer).await?,
            mongodb: Mongodb::new(&endpoints.mongodb, &endpoints.mongodb_database).await?,
            ledger: Ledger::default(),
            stream: Stream::default(),
            losses: 0,
            may_differ: false,
            unpublished: Vec::new(),
            deleted: Vec::new(),
            violations: Vec::new(),
        };
        let state = Mutex::new(state);
        Ok(Self { state })
    }

    /// Waits until both sides are idle, and looks. No client writes meanwhile, and no fault strikes.
    ///
    /// # Errors
    /// If a server can't be asked.
    pub(crate) async fn check(
        &self,
        history: &History,
        observers: &Observers,
    ) -> anyhow::Result<Vec<Violation>> {
        let mut state = self.state.lock().await;
        if state.losses != history.losses() {
            state.losses = history.losses();
            state.forget_ledger();
        }
        if observers.take_stream_loss() {
            state.forget_stream();
        }
        let last = state.until_idle(history, observers).await?;
        let mut violations = history.take_violations();
        violations.append(&mut state.violations);
        violations.extend(last.open);
        violations.extend(state.ledger.compare(&last.users));
        violations.extend(history.read(|records| state.ledger.missing(records)));
        violations.extend(observers.take_violations());
        history.losses_are_over();
        state.losses = history.losses();
        state.settle();
        Ok(violations)
    }
}

impl State {
    /// An earlier state was put in its place.
    fn forget_ledger(&mut self) {
        self.postgres.forget();
        self.ledger = Ledger::reconciling();
        self.may_differ = true;
        self.unpublished.clear();
        self.deleted.clear();
    }

    /// It has lost messages.
    fn forget_stream(&mut self) {
        self.nats.forget();
        self.read_stream_again();
        if self.losses > 0 {
            self.ledger.reconciles_again();
        }
    }

    fn read_stream_again(&mut self) {
        self.stream = Stream::refilled();
        self.unpublished = self.ledger.event_ids().collect();
        self.may_differ |= self.losses > 0;
    }

    /// Whatever came of faults has been looked at.
    fn settle(&mut self) {
        self.ledger.is_reconciled();
        self.stream.is_settled();
        self.may_differ = false;
        self.unpublished.clear();
        self.deleted.clear();
    }

    /// The last look, at which nothing is open unless the deadline is over.
    async fn until_idle(
        &mut self,
        history: &History,
        observers: &Observers,
    ) -> anyhow::Result<Look> {
        let settled = self.until_settled().await?;
        let deadline = Instant::now() + RECOVERY_DEADLINE;
        let mut servers_deadline = Instant::now() + SERVERS_DEADLINE;
        loop {
            match self.look(settled, history, observers).await {
                Ok(look) if look.open.is_empty() || Instant::now() > deadline => return Ok(look),
                Ok(_) => servers_deadline = Instant::now() + SERVERS_DEADLINE,
                Err(error) if Instant::now() > servers_deadline => return Err(error),
                Err(_) => {}
            }
            sleep(PAUSE).await;
        }
    }

    async fn until_settled(&self) -> anyhow::Result<i64> {
        let deadline = Instant::now() + SERVERS_DEADLINE;
        loop {
            match self.postgres.until_settled().await {
                Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    }

    async fn look(
        &mut self,
        settled: i64,
        history: &History,
        observers: &Observers,
    ) -> anyhow::Result<Look> {
        // The stream first: an event is committed before it is published.
        let read = self.nats.read().await?;
        self.take_messages(read);
        let snapshot = self.postgres.snapshot(settled).await?;
        self.take_events(snapshot.events, history);
        let different = self.stream.compare(&self.ledger);
        self.violations.extend(different);

        let documents = self.mongodb.living().await?;
        let tombstones = self.mongodb.of(&self.deleted).await?;
        let mut open: Vec<_> = snapshot.open.into_iter().map(idle).collect();
        open.extend(self.nats.open().await?.into_iter().map(idle));
        open.extend(self.not_on_the_stream());
        open.extend(copy::compare(&documents, &snapshot.users));
        open.extend(copy::compare_deleted(
            &tombstones,
            &self.deleted,
            &self.ledger,
        ));
        open.extend(observers.unseen(&documents));
        open.extend(
            observers
                .not_ready()
                .iter()
                .map(|service| not_ready(service)),
        );
        Ok(Look {
            users: snapshot.users,
            open,
        })
    }

    fn take_messages(&mut self, read: Read) {
        if read.is_replaced {
            self.read_stream_again();
        }
        let add = |message| self.stream.add(message).err();
        let disordered = read.messages.into_iter().filter_map(add);
        self.violations.extend(disordered);
    }

    fn take_events(&mut self, events: Vec<Event>, history: &History) {
        for event in events {
            let added = history.read(|records| self.ledger.add(&event, records));
            self.violations.extend(added.err());
            self.unpublished.push(event.event_id);
            if event.kind == Kind::Deleted {
                self.deleted.push(event.user.id);
            }
        }
    }

    /// Events that are on one side only. After a loss of the database's last writes the stream still has
    /// those, and versions that are lower than theirs are not published.
    fn not_on_the_stream(&mut self) -> Vec<Violation> {
        let (stream, ledger) = (&mut self.stream, &self.ledger);
        self.unpublished.retain(|event_id| {
            if stream.has(*event_id) {
                return false;
            }
            let event = ledger.event(*event_id);
            let is_superseded = self.may_differ
                && event.is_some_and(|event| stream.has_come_to(event.user, event.version));
            if is_superseded {
                stream.excuse(*event_id);
            }
            !is_superseded
        });
        let missing = self.unpublished.iter().map(|event_id| {
            let what = format!("{event_id} is not there: {:?}", ledger.event(*event_id));
            Violation::new("every event comes to the stream", what)
        });
        let uncommitted = match self.may_differ {
            true => Vec::new(),
            false => stream.uncommitted(),
        };
        missing.chain(uncommitted).collect()
    }
}

fn idle(what: String) -> Violation {
    Violation::new("nothing is left over", what)
}

fn not_ready(service: &str) -> Violation {
    let what = format!("{service} is not ready again");
    Violation::new("services recover", what)
}

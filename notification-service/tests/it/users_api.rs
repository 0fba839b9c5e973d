//! A user service that offers digests, and notes what it is asked.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::Utc;
use serde_json::{Value, json};
use service_runtime::{
    digests::{DigestQuery, DigestsBuilder},
    page::Page,
};
use shared_events::{UserState, user_digest};
use tokio::{net::TcpListener, sync::Semaphore};

#[derive(Clone)]
pub(crate) struct UsersApi(Arc<Inner>);

pub(crate) struct Inner {
    users: Mutex<BTreeMap<i64, UserState>>,
    asked: Mutex<Vec<DigestQuery>>,
    /// Pages of the list that were asked for.
    pub(crate) pages: AtomicUsize,
    /// Users that were to be published again.
    pub(crate) republished: AtomicUsize,
    /// A user whose repair is answered with 503; 0 for nobody.
    pub(crate) locked: AtomicI64,
    /// Single users that were asked for.
    pub(crate) looks: AtomicUsize,
    /// Each look at a single user finds a later version than the one before.
    pub(crate) is_busy: AtomicBool,
    /// Answers 503.
    pub(crate) is_down: AtomicBool,
    /// The only one that is accepted, if set.
    pub(crate) token: Mutex<Option<&'static str>>,
    /// How many more digests are answered; others wait for more permits.
    pub(crate) permits: Semaphore,
    /// Digests that are being answered, and the most of them at once.
    at_once: AtomicUsize,
    pub(crate) most_at_once: AtomicUsize,
    /// Ranges of one answer.
    max_ranges: usize,
}

/// A digest that is being answered, until its client has the answer or has hung up.
struct Answering<'a>(&'a AtomicUsize);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::ops::Deref for UsersApi {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl UsersApi {
    /// And where it is served.
    pub(crate) async fn serve(users: impl IntoIterator<Item = UserState>) -> (Self, String) {
        Self::serve_slowly(users, usize::MAX).await
    }

    /// One that answers digests of at most so many ranges at once.
    pub(crate) async fn serve_slowly(
        users: impl IntoIterator<Item = UserState>,
        max_ranges: usize,
    ) -> (Self, String) {
        let users = users.into_iter().map(|user| (user.id, user)).collect();
        let api = Self(Arc::new(Inner {
            users: Mutex::new(users),
            asked: Mutex::default(),
            pages: AtomicUsize::default(),
            republished: AtomicUsize::default(),
            locked: AtomicI64::default(),
            looks: AtomicUsize::default(),
            is_busy: AtomicBool::default(),
            is_down: AtomicBool::default(),
            token: Mutex::default(),
            permits: Semaphore::new(1_000_000),
            at_once: AtomicUsize::default(),
            most_at_once: AtomicUsize::default(),
            max_ranges,
        }));
        let routes = Router::new()
            .route("/users", get(Self::list))
            .route("/users/digests", get(Self::digests))
            .route("/users/republish", post(Self::republish))
            .route("/users/{id}", get(Self::one))
            .layer(middleware::from_fn_with_state(api.clone(), Self::admit))
            .with_state(api.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async { axum::serve(listener, routes).await });
        (api, url)
    }

    pub(crate) fn users(&self) -> MutexGuard<'_, BTreeMap<i64, UserState>> {
        self.users.lock().expect("no panic")
    }

    /// The digests that were asked for since this was called last, of ranges of this size.
    pub(crate) fn asked(&self, size: i64) -> Vec<DigestQuery> {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter(|it| it.size == size).copied().collect()
    }

    pub(crate) fn accept_only(&self, token: &'static str) {
        *self.token.lock().expect("no panic") = Some(token);
    }

    async fn admit(State(it): State<Self>, request: Request, next: Next) -> Response {
        if it.is_down.load(Ordering::Relaxed) {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let token = *it.token.lock().expect("no panic");
        let given = request.headers().get(header::AUTHORIZATION).cloned();
        let given = given.and_then(|it| it.to_str().map(str::to_owned).ok());
        if token.is_some_and(|token| given != Some(format!("Bearer {token}"))) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        next.run(request).await
    }

    fn answer(&self) -> Answering<'_> {
        let at_once = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::Relaxed);
        Answering(&self.at_once)
    }

    async fn digests(State(it): State<Self>, query: DigestQuery) -> Response {
        it.asked.lock().expect("no panic").push(query);
        let _answering = it.answer();
        it.permits.acquire().await.expect("open").forget();
        let mut digests = DigestsBuilder::new(query);
        let mut is_all = true;
        {
            let users = it.users();
            let users = users.range(query.first..);
            for (id, user) in users.take_while(|(id, _)| **id <= query.last) {
                if digests.is_full() {
                    is_all = false;
                    break;
                }
                let digest =
                    user_digest(*id, user.version, user.updated_at, &user.name, &user.email);
                digests.add(*id, digest);
            }
        }
        let mut answer = digests.finish(Utc::now(), is_all);
        if answer.ranges.len() > it.max_ranges {
            answer.through = answer.ranges[it.max_ranges].first - 1;
            answer.ranges.truncate(it.max_ranges);
        }
        Json(answer).into_response()
    }

    async fn list(State(it): State<Self>, page: Page) -> Response {
        it.pages.fetch_add(1, Ordering::Relaxed);
        let users = it.users();
        let users = users.values().filter(|user| user.id > page.after);
        let users: Vec<_> = users.take(page.limit.into()).collect();
        page.respond(&users, |user| user.id)
    }

    async fn republish(State(it): State<Self>, Json(request): Json<Value>) -> Response {
        let users = request["users"].as_array().cloned().unwrap_or_default();
        let locked = it.locked.load(Ordering::Relaxed);
        if users.iter().any(|user| user["id"] == locked) {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        it.republished.fetch_add(users.len(), Ordering::Relaxed);
        Json(json!({})).into_response()
    }

    async fn one(State(it): State<Self>, Path(id): Path<i64>) -> Response {
        it.looks.fetch_add(1, Ordering::Relaxed);
        let mut users = it.users();
        let user = users.get(&id).cloned();
        if it.is_busy.load(Ordering::Relaxed) {
            users.entry(id).and_modify(|user| user.version += 1);
        }
        user.map_or(StatusCode::NOT_FOUND.into_response(), |user| {
            Json(user).into_response()
        })
    }
}

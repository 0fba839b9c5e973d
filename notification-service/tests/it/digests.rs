//! `GET /notifications/digests`: what the users are compared with.

use chrono::DateTime;
use proptest::{prelude::Strategy, strategy::ValueTree, test_runner::TestRunner};
use serde_json::Value;
use shared_events::UserState;

use crate::{
    events::{state, time_of},
    support::World,
    users_api::UsersApi,
};

const LAST_ID: i64 = i64::MAX / 2;

/// What a session, a release or a person may have made of a name is in the digest of both sides.
#[tokio::test]
async fn any_user_that_the_copy_can_hold_has_the_same_digest() {
    let world = World::new().await;
    let text = || "(\\PC|[\\t\\n\"'\\\\ %$.,;😀ßéㄱ\u{1}\u{301}\u{fffd}]){0,40}";
    let user = (
        text(),
        text(),
        -62_000_000_000_000..253_402_300_799_999_i64,
        1..=LAST_ID,
    );
    let users = proptest::collection::vec(user, 500);
    let users = users.prop_map(|users| {
        let users = (1..).zip(users);
        let users = users.map(|(id, (name, email, milliseconds, version))| UserState {
            name,
            email,
            updated_at: DateTime::from_timestamp_millis(milliseconds).unwrap_or(time_of(1)),
            version,
            ..state(id, 1)
        });
        users.collect::<Vec<_>>()
    });
    let users = users
        .new_tree(&mut TestRunner::deterministic())
        .expect("users")
        .current();
    let (_, url) = UsersApi::serve(users.clone()).await;
    let service = world.serve().await;
    let events: Vec<_> = users
        .into_iter()
        .map(shared_events::UserEvent::UserUpdated)
        .collect();
    world.publish_all(&events).await;
    world.settled().await;
    let get = async |url: String| -> Value {
        let answer = reqwest::get(url).await.expect("an answer");
        answer.json().await.expect("JSON")
    };
    for size in [1, 16_384] {
        let users = get(format!("{url}/users/digests?size={size}")).await;
        let copies = get(format!(
            "{}/notifications/digests?size={size}",
            service.url()
        ))
        .await;
        assert_eq!(users["ranges"], copies["ranges"]);
    }
    service.stop().await;
}

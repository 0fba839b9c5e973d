//! Tokens that are withdrawn while clients follow.

use std::{fs, time::Duration};

use tempfile::NamedTempFile;
use testkit::eventually;
use tokio::time::timeout;

use crate::{
    events::created,
    live::{Follower, STREAM},
    support::World,
};

const WITHDRAWN: &str = "withdrawn-withdrawn";
const OTHER: &str = "other-other-other-other";
const STREAMS: [&str; 2] = [STREAM, "/consumer/stream"];

#[tokio::test]
async fn a_token_that_is_withdrawn_ends_the_streams_of_its_followers() {
    let file = NamedTempFile::new().expect("a file");
    let set = |tokens: String| fs::write(file.path(), tokens).expect("written");
    set(format!("read {WITHDRAWN}\nread {OTHER}\n"));
    let world = World::new().await;
    let mut config = world.config();
    config.http.token_file = Some(file.path().to_owned());
    let service = world.serve_with(config).await;
    let ask = async |path: &str, token: &str| {
        let token = format!("Bearer {token}");
        eventually(path, async || {
            let response = service.get_with(path, "authorization", &token).await;
            (response.status() != 503).then_some(response)
        })
        .await
    };
    let mut streams = Vec::new();
    for path in STREAMS {
        let stream = ask(path, WITHDRAWN).await;
        assert_eq!(stream.status(), 200, "{path}");
        streams.push(stream);
    }
    let mut other = Follower::new(ask(STREAM, OTHER).await);
    assert_eq!(other.next().await.event, "ready");

    set(format!("read {OTHER}\n"));
    for mut stream in streams {
        let reading = async { while let Ok(Some(_)) = stream.chunk().await {} };
        let ended = timeout(Duration::from_secs(60), reading).await;
        ended.expect("the end of a stream");
    }
    for path in STREAMS {
        assert_eq!(ask(path, WITHDRAWN).await.status(), 401, "{path}");
    }
    world.publish(&created(1)).await;
    assert_eq!(other.next().await.data["user_id"], 1);
    service.stop().await;
}

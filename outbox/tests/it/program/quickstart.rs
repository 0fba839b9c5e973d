//! The quickstart of the README, as it is printed there.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use super::support::World;

const README: &str = include_str!("../../../README.md");

/// The text of each block in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    let blocks = README.split(&opening).skip(1);
    let text = |block: &'static str| block.split("```").next().expect("an end");
    blocks.map(text).collect()
}

/// Without the parameters that only sqlx knows.
fn url(world: &World) -> &str {
    let url = &world.database.url;
    url.split_once('?').map_or(url, |(url, _)| url)
}

fn psql(world: &World, script: &str) {
    let mut psql = Command::new("psql");
    psql.args(["-qX", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d", url(world)]);
    succeeds(&feed(&mut psql, script));
}

fn python(world: &World, script: &str) {
    let mut python = Command::new("python3");
    python
        .arg("-")
        .env("PYTHONPATH", psycopg())
        .env("DATABASE_URL", url(world));
    succeeds(&feed(&mut python, script));
}

fn feed(program: &mut Command, script: &str) -> Output {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut input = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, script.as_bytes()).expect("it reads");
    drop(input);
    child.wait_with_output().expect("an end")
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// Where the driver is: in `.local/`, where the scripts keep what they download.
fn psycopg() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let download = "set -euo pipefail; source scripts/lib/stack.sh; download psycopg --quiet";
    let output = Command::new("bash")
        .args(["-c", download, "scripts/quickstart"])
        .current_dir(root)
        .output();
    let output = output.expect("bash");
    let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    succeeds(&output);
    directory
}

#[tokio::test]
async fn the_quickstart_in_psql_and_python_does_what_it_says() {
    let world = World::new().await;
    let _relay = world.relay(&[]);
    let [table, place, change, many, ..] = blocks("sql")[..] else {
        panic!("the README has other blocks");
    };
    psql(&world, table);
    psql(&world, place);
    for script in blocks("python") {
        python(&world, script);
    }
    psql(&world, change);
    // Otherwise an order whose event is on its way lets the other one go first.
    world.published(3).await;
    psql(&world, many);

    let published = world.published(5).await;
    let told: Vec<(Value, &str)> = (published.iter())
        .map(|it| {
            (
                serde_json::from_str(&it.body).expect("JSON"),
                it.aggregate_id.as_str(),
            )
        })
        .map(|(event, id): (Value, _)| (event["type"].clone(), id))
        .collect();
    let expected = [
        ("order_placed", "1"),
        ("order_placed", "2"),
        ("order_paid", "1"),
        ("order_archived", "1"),
        ("order_archived", "2"),
    ];
    assert_eq!(told, expected.map(|(kind, id)| (Value::from(kind), id)));
    let placed: Value = serde_json::from_str(&published[1].body).expect("JSON");
    assert_eq!(placed["payload"]["status"], "placed");
}

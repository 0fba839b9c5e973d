//! What is fuzzed: each target has a corpus, and is run on it by an ordinary test.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{read, report};

#[test]
fn each_fuzz_target_has_a_corpus_and_an_ordinary_test() {
    let targets = names("../fuzz/fuzz_targets");
    let corpora = names("../fuzz/corpus");
    let differ = targets.symmetric_difference(&corpora);
    let mut faults: Vec<_> = differ
        .map(|name| format!("fuzz/: {name} is a target without a corpus, or the other way round"))
        .collect();
    let tested: Vec<_> = (read().iter())
        .filter(|source| source.path.ends_with("/fuzzing.rs"))
        .map(|source| fs::read_to_string(Path::new("..").join(&source.path)).expect("text"))
        .collect();
    let untested = targets.iter().filter(|name| {
        let replay = format!("fuzzing::replay(\"{name}\"");
        !tested.iter().any(|text| text.contains(&replay))
    });
    faults.extend(untested.map(|name| format!("fuzz/: no test replays {name}")));
    report(&faults);
}

fn names(directory: &str) -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = fs::read_dir(&directory).expect("a directory");
    let path = entries.map(|entry| entry.expect("an entry").path());
    path.map(|path| {
        path.file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    })
    .collect()
}

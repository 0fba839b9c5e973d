//! The mutations of `scripts/chaos mutations` still fit the code, and each removes a guard.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use protocol_model::Guard;

#[test]
fn every_mutation_applies_and_names_what_it_removes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mutations = fs::read_dir(root.join("chaos/mutations")).expect("a directory");
    let mut count = 0;
    for mutation in mutations {
        let path = mutation.expect("a file").path();
        if path.extension() != Some(OsStr::new("patch")) {
            continue;
        }
        let patch = fs::read_to_string(&path).expect("text");
        let name = path.display();
        let guards = patch
            .lines()
            .next()
            .and_then(|it| it.strip_prefix("Guard: "));
        let guards = guards.unwrap_or_else(|| panic!("{name} does not begin with its guard"));
        for guard in guards.split("; ") {
            // Rebuilds are not modelled.
            let is_known = Guard::ALL.iter().any(|it| it.about() == guard);
            assert!(
                is_known || guard.starts_with("a rebuild"),
                "{name}: no guard: {guard}"
            );
        }
        let checked = Command::new("git")
            .args(["apply", "--check"])
            .arg(path.canonicalize().expect("a path"))
            .current_dir(&root)
            .output()
            .expect("git");
        let errors = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{name} does not apply: {errors}");
        count += 1;
    }
    assert!(count >= 18, "only {count} mutations");
}

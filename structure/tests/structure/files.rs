//! Files: their names and lengths.

use crate::{
    read, report,
    rules::{LONGER_FILES, MAX_LINES},
};

#[test]
fn a_module_is_in_a_file_of_its_own_name() {
    let sources = read();
    let faults = sources.iter().filter(|it| it.path.ends_with("/mod.rs"));
    let faults =
        faults.map(|it| format!("{}: name it foo.rs beside foo/, not foo/mod.rs", it.path));
    report(&faults.collect::<Vec<_>>());
}

#[test]
fn files_are_short_enough_to_be_read_at_once() {
    let sources = read();
    let mut faults = Vec::new();
    for source in &sources {
        let exception = LONGER_FILES.iter().find(|(path, _)| *path == source.path);
        match (source.lines > MAX_LINES, exception) {
            (true, None) => faults.push(format!(
                "{}: {} lines, the limit is {MAX_LINES}: split it, or name the reason in LONGER_FILES",
                source.path, source.lines
            )),
            (false, Some(_)) => faults.push(format!(
                "{}: {} lines only: remove it from LONGER_FILES",
                source.path, source.lines
            )),
            _ => {}
        }
    }
    let missing =
        (LONGER_FILES.iter()).filter(|(path, _)| sources.iter().all(|source| source.path != *path));
    faults.extend(
        missing.map(|(path, _)| format!("{path} is not there: remove it from LONGER_FILES")),
    );
    report(&faults);
}

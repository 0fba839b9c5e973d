//! Files of the repository that say what the code says.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Fails unless the file, named from the root of the repository, has just this text. With
/// `UPDATE_SCHEMA` set in the environment it is written anew.
///
/// # Panics
/// If it differs, or can't be read or written.
pub fn assert_published(file: &str, wanted: &str) {
    let path = path(file);
    if is_to_be_updated() {
        fs::write(&path, wanted).expect("a file that can be written");
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    let is_current = published == wanted;
    assert!(
        is_current,
        "{file} is out of date: run this test with UPDATE_SCHEMA=1"
    );
}

/// The same of what stands below a heading of the second level in a Markdown file, up to the next one.
/// Tests that write other sections at the same time wait for each other.
///
/// # Panics
/// If the section differs, or the file has no such heading, or can't be read or written.
pub fn assert_published_section(file: &str, heading: &str, wanted: &str) {
    let path = path(file);
    let lock = File::open(&path).expect("a file that can be read");
    lock.lock().expect("the file's turn");
    let published = fs::read_to_string(&path).expect("text");
    let heading = format!("\n## {heading}\n");
    let (before, rest) = (published.split_once(&heading))
        .unwrap_or_else(|| panic!("{file} has no heading {heading:?}"));
    let end = rest.find("\n## ").unwrap_or(rest.len());
    let (section, after) = rest.split_at(end);
    let wanted = format!("\n{wanted}");
    if is_to_be_updated() {
        let updated = [before, &heading, &wanted, after].concat();
        fs::write(&path, updated).expect("a file that can be written");
    } else {
        let is_current = section == wanted;
        assert!(
            is_current,
            "{file} is out of date: run this test with UPDATE_SCHEMA=1"
        );
    }
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line")]
fn is_to_be_updated() -> bool {
    env::var_os("UPDATE_SCHEMA").is_some()
}

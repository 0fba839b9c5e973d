//! Files of the repository that say what the code says.

use std::{env, fs, path::Path};

/// Fails unless the file, named from the root of the repository, has just this text. With
/// `UPDATE_SCHEMA` set in the environment it is written anew.
///
/// # Panics
/// If it differs, or can't be read or written.
#[expect(clippy::disallowed_methods, reason = "tests have no command line")]
pub fn assert_published(file: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, wanted).expect("a file that can be written");
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    let is_current = published == wanted;
    assert!(
        is_current,
        "{file} is out of date: run this test with UPDATE_SCHEMA=1"
    );
}

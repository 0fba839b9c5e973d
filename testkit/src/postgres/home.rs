//! Directories and programs of Postgres.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A directory of the user that Postgres runs as.
#[derive(Debug)]
pub(crate) struct Home {
    directory: TempDir,
    /// Arguments for `setpriv`: Postgres refuses to run as root.
    pub(crate) user: Vec<&'static str>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::within(&env::temp_dir())
    }

    pub(super) fn within(parent: &Path) -> Self {
        let directory = tempfile::tempdir_in(parent).expect("a temporary directory");
        let user = as_postgres(directory.path());
        Self { directory, user }
    }

    /// Another one at the same place.
    pub(super) fn beside(&self) -> Self {
        Self::within(self.path().parent().expect("a directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The server's data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Has `program` make the data directory.
    pub(super) fn make_data(&self, program: &str, arguments: &[&str]) {
        let data = self.data();
        let data = data.to_str().expect("a path in UTF-8");
        let made = Command::new("setpriv")
            .args(&self.user)
            .arg(binary(program))
            .args(["-D", data])
            .args(arguments)
            .output()
            .expect("setpriv");
        assert!(made.status.success(), "{made:?}");
    }
}

/// Runs a client program of Postgres, such as `pg_dump`; what it printed.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(binary(program)).args(arguments).output();
    let output = output.expect("a program of Postgres");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Gives the directory to the user that Postgres runs as.
fn as_postgres(directory: &Path) -> Vec<&'static str> {
    let owner = fs::metadata(directory).expect("the directory").uid();
    if owner != 0 {
        return Vec::new();
    }
    let given = Command::new("chown")
        .arg("postgres")
        .arg(directory)
        .status();
    assert!(
        given.is_ok_and(|it| it.success()),
        "there is no user postgres"
    );
    vec!["--reuid=postgres", "--regid=postgres", "--init-groups"]
}

/// From `PG_BIN`, else the newest that Debian has.
#[expect(clippy::disallowed_methods, reason = "tests have no command line")]
pub(super) fn binary(program: &str) -> String {
    let directory = env::var("PG_BIN").unwrap_or_else(|_| {
        let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL, or PG_BIN");
        let newest = versions
            .filter_map(|it| it.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .max();
        let newest = newest.expect("PostgreSQL, or PG_BIN");
        format!("/usr/lib/postgresql/{newest}/bin")
    });
    format!("{directory}/{program}")
}

//! The packages of the workspace and what they depend on, as cargo knows them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

pub(crate) struct Workspace {
    root: PathBuf,
    pub(crate) packages: Vec<Package>,
}

pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    /// The packages of this workspace that the package is built with.
    pub(crate) dependencies: Vec<String>,
    /// Those that its tests are built with in addition.
    pub(crate) test_dependencies: Vec<String>,
    /// Everything that its manifest asks for.
    pub(crate) all_dependencies: Vec<String>,
}

impl Workspace {
    pub(crate) fn load() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
        let packages = items(&metadata["packages"]).map(package).collect();
        let root = PathBuf::from(text(&metadata["workspace_root"]));
        Self { root, packages }
    }

    /// The lines of a table of the workspace's manifest.
    pub(crate) fn table(&self, name: &str) -> Vec<String> {
        let path = self.root.join("Cargo.toml");
        let manifest = fs::read_to_string(path).expect("the manifest can be read");
        let lines = manifest
            .lines()
            .skip_while(|line| *line != format!("[{name}]"));
        let lines = lines.skip(1).take_while(|line| !line.starts_with('['));
        lines.map(str::to_owned).collect()
    }

    /// A path from the root of the workspace, with `/`.
    pub(crate) fn relative(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        path.to_string_lossy().replace('\\', "/")
    }
}

fn package(package: &Value) -> Package {
    let ours = |is_wanted: fn(&Value) -> bool| {
        let dependencies = items(&package["dependencies"])
            .filter(|dependency| !dependency["path"].is_null() && is_wanted(&dependency["kind"]));
        let names = dependencies.map(|dependency| text(&dependency["name"]).to_owned());
        names.collect()
    };
    let manifest = Path::new(text(&package["manifest_path"]));
    Package {
        name: text(&package["name"]).to_owned(),
        directory: manifest
            .parent()
            .expect("a manifest lies in a directory")
            .to_owned(),
        dependencies: ours(|kind| kind != "dev"),
        test_dependencies: ours(|kind| kind == "dev"),
        all_dependencies: items(&package["dependencies"])
            .map(|dependency| text(&dependency["name"]).to_owned())
            .collect(),
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().expect("cargo prints a list").iter()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo prints a string")
}

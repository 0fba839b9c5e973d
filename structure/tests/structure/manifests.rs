//! What crates depend on.

use crate::{
    report,
    rules::{EXAMPLE, EXAMPLES, LAYERS, USED_WITHOUT_NAME},
    source,
    workspace::Workspace,
};

#[test]
fn a_crate_depends_only_on_crates_below_it() {
    let workspace = Workspace::load();
    let mut faults = Vec::new();
    for package in &workspace.packages {
        let is_example = workspace.relative(&package.directory).starts_with(EXAMPLES);
        let mut layers = LAYERS.iter().filter(|it| it.package == package.name);
        let Some(layer) = layers.next().or(is_example.then_some(&EXAMPLE)) else {
            faults.push(format!(
                "{}: which crates it may use is not said in LAYERS",
                package.name
            ));
            continue;
        };
        let uses = (package.dependencies.iter()).filter(|it| !layer.uses.contains(&it.as_str()));
        let tests_use = package.test_dependencies.iter().filter(|it| {
            !layer.uses.contains(&it.as_str()) && !layer.tests_use.contains(&it.as_str())
        });
        faults.extend(uses.chain(tests_use).map(|other| {
            format!(
                "{}/Cargo.toml: {} may not depend on {other}: a crate knows only what is below it \
                 (LAYERS)",
                workspace.relative(&package.directory),
                package.name
            )
        }));
    }
    report(&faults);
}

#[test]
fn a_crate_uses_what_its_manifest_asks_for() {
    let workspace = Workspace::load();
    let sources = source::read_all(&workspace);
    let mut faults = Vec::new();
    for package in &workspace.packages {
        let is_used = |name: &str| {
            let name = name.replace('-', "_");
            let mut sources = sources
                .iter()
                .filter(|source| source.package == package.name);
            sources.any(|source| source.beginnings.contains(&name))
        };
        let unused = (package.all_dependencies.iter()).filter(|name| {
            !is_used(name) && !USED_WITHOUT_NAME.contains(&(package.name.as_str(), name.as_str()))
        });
        faults.extend(unused.map(|name| {
            format!(
                "{}: {name} is not used: remove it from Cargo.toml",
                package.name
            )
        }));
    }
    report(&faults);
}

#[test]
fn the_workspace_names_the_versions_in_order_and_only_those_that_are_used() {
    let workspace = Workspace::load();
    let lines = workspace.table("workspace.dependencies");
    let mut faults = Vec::new();
    // Our own crates first, then those of others.
    for block in lines.split(String::is_empty) {
        let names: Vec<_> = block
            .iter()
            .filter_map(|line| line.split(" = ").next())
            .collect();
        faults.extend(
            names
                .windows(2)
                .filter(|pair| pair[0] > pair[1])
                .map(|pair| {
                    format!(
                        "Cargo.toml: {} comes before {} in [workspace.dependencies]",
                        pair[1], pair[0]
                    )
                }),
        );
        let is_used = |name: &str| {
            let mut packages = workspace.packages.iter();
            packages.any(|package| package.all_dependencies.iter().any(|it| it == name))
        };
        faults.extend(names.iter().filter(|name| !is_used(name)).map(|name| {
            format!("Cargo.toml: no crate uses {name}: remove it from [workspace.dependencies]")
        }));
    }
    report(&faults);
}

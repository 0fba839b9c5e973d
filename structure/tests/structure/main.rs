//! Keeps the layout that ARCHITECTURE.md describes. The rules are data, in `rules.rs`.

mod modules;
mod paths;
mod rules;
mod source;
mod workspace;

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use self::{
    rules::{
        KNOWN_CYCLES, LAYERS, LONGER_FILES, MAX_LINES, Matcher, PLACES, PRODUCTION, Place, Scope,
    },
    source::Source,
    workspace::Workspace,
};

#[test]
fn sql_bson_tasks_and_sleeps_stand_only_in_the_modules_that_are_for_them() {
    let sources = read();
    let mut faults = Vec::new();
    for place in PLACES {
        let sources = sources.iter().filter(|source| match place.scope {
            Scope::Production => {
                is_production(source) && PRODUCTION.contains(&source.package.as_str())
            }
            Scope::Tests => source.is_test(),
        });
        for source in sources.filter(|source| !source.is_in(place.allowed_in)) {
            let lines = lines_with(source, place);
            faults.extend(lines.into_iter().map(|line| {
                let Place { what, why, .. } = place;
                let allowed_in = place.allowed_in.join(", ");
                format!(
                    "{}:{line}: {what}, allowed in {allowed_in} only: {why}",
                    source.path
                )
            }));
        }
    }
    report(&faults);
}

#[test]
fn routes_are_made_only_in_files_with_a_router_or_routes_function() {
    let sources = read();
    let faults = production(&sources).filter_map(|source| {
        let made = source.references.iter().find(|reference| {
            let name = reference.segments.last().map_or("", String::as_str);
            (reference.is_method && matches!(name, "route" | "nest" | "route_service"))
                || (reference.is_macro_call && name == "routes")
        })?;
        let has_function = source.references.windows(2).any(|pair| {
            pair[0].segments == ["fn"]
                && matches!(pair[1].segments[0].as_str(), "router" | "routes")
        });
        (!has_function).then(|| {
            format!(
                "{}:{}: routes are made in a file without `fn router` or `fn routes`: who looks for \
                 a path searches for those",
                source.path, made.line
            )
        })
    });
    report(&faults.collect::<Vec<_>>());
}

#[test]
fn a_crate_depends_only_on_crates_below_it() {
    let workspace = Workspace::load();
    let mut faults = Vec::new();
    for package in &workspace.packages {
        let Some(layer) = LAYERS.iter().find(|it| it.package == package.name) else {
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
                package.directory.display(),
                package.name
            )
        }));
    }
    report(&faults);
}

#[test]
fn sibling_modules_do_not_use_each_other_in_cycles() {
    let workspace = Workspace::load();
    let sources = source::read_all(&workspace);
    let mut gone: Vec<_> = KNOWN_CYCLES.iter().collect();
    let mut faults = Vec::new();
    for package in &workspace.packages {
        let sources: Vec<_> = production(&sources)
            .filter(|it| it.package == package.name)
            .collect();
        for cycle in modules::cycles(&sources) {
            let known = gone.len();
            gone.retain(|(of, name)| *of != package.name || *name != cycle.name);
            if gone.len() == known {
                faults.push(format!(
                    "{}: {} use each other, so none of them can be read, moved or tested alone:\n    {}",
                    package.name,
                    cycle.name,
                    cycle.uses.join("\n    ")
                ));
            }
        }
    }
    faults.extend(gone.iter().map(|(package, name)| {
        format!("{package}: {name} is no cycle any more: remove it from KNOWN_CYCLES")
    }));
    report(&faults);
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

#[test]
fn a_module_is_in_a_file_of_its_own_name() {
    let sources = read();
    let faults = sources.iter().filter(|it| it.path.ends_with("/mod.rs"));
    let faults =
        faults.map(|it| format!("{}: name it foo.rs beside foo/, not foo/mod.rs", it.path));
    report(&faults.collect::<Vec<_>>());
}

fn read() -> Vec<Source> {
    source::read_all(&Workspace::load())
}

fn production(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| is_production(source))
}

fn is_production(source: &Source) -> bool {
    !source.is_test() && source.module.is_some()
}

/// The lines where what the rule is about stands.
fn lines_with(source: &Source, place: &Place) -> BTreeSet<usize> {
    match place.is_it {
        Matcher::Path(paths) => {
            let references = source.references.iter().filter(|reference| {
                let path = reference.segments.join("::");
                !reference.is_method
                    && paths.iter().any(|wanted| {
                        let rest = path.strip_prefix(wanted);
                        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
                    })
            });
            references.map(|reference| reference.line).collect()
        }
        Matcher::SqlText => {
            let mut lines = BTreeSet::new();
            sql_texts(source.tokens.clone(), &mut lines);
            lines
        }
    }
}

fn sql_texts(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => sql_texts(group.stream(), lines),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let text = text.trim_start_matches(['r', 'b', '#', '"', '\n', ' ']);
                let mut words = text.split_whitespace();
                let (first, second) = (words.next().unwrap_or(""), words.next());
                let is_statement = match first {
                    "select" => text.contains(" from ") || text.contains('('),
                    "insert" => second == Some("into"),
                    "delete" => second == Some("from"),
                    "update" => text.contains(" set "),
                    "with" => text.contains(" as ("),
                    "create" | "alter" | "drop" | "lock" => {
                        matches!(second, Some("table" | "index" | "schema" | "function"))
                    }
                    _ => false,
                };
                if is_statement {
                    lines.insert(literal.span().start().line);
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n\n{}\n", faults.join("\n"));
}

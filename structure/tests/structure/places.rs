//! What may stand in some modules only.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use crate::{
    is_production,
    paths::Reference,
    production, read, report,
    rules::{EXAMPLES, Matcher, PLACES, PRODUCTION, Place, Scope},
    source::Source,
};

#[test]
fn sql_bson_tasks_and_sleeps_stand_only_in_the_modules_that_are_for_them() {
    let sources = read();
    let mut faults = Vec::new();
    for place in PLACES {
        let sources = sources.iter().filter(|source| match place.scope {
            Scope::Production => {
                is_production(source)
                    && (PRODUCTION.contains(&source.package.as_str()) || source.is_in(&[EXAMPLES]))
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
fn the_modules_that_rules_name_are_there() {
    let sources = read();
    let named = PLACES.iter().flat_map(|place| place.allowed_in);
    let gone = named.filter(|module| !sources.iter().any(|source| source.is_in(&[module])));
    let faults = gone.map(|module| format!("PLACES names {module}, which is not there"));
    report(&faults.collect::<Vec<_>>());
}

/// The lines where what the rule is about stands.
fn lines_with(source: &Source, place: &Place) -> BTreeSet<usize> {
    match place.is_it {
        Matcher::Path(paths) => lines_of(source, paths, |_| true),
        Matcher::Function(paths) => lines_of(source, paths, |reference| {
            !reference.is_macro_call && reference.imported_as.is_none()
        }),
        Matcher::SqlText => {
            let mut lines = BTreeSet::new();
            sql_texts(source.tokens.clone(), &mut lines);
            lines
        }
    }
}

/// The lines with a path that begins as one of these does.
fn lines_of(
    source: &Source,
    paths: &[&str],
    is_meant: impl Fn(&Reference) -> bool,
) -> BTreeSet<usize> {
    let references = source.references.iter().filter(|reference| {
        if reference.is_method || !is_meant(reference) {
            return false;
        }
        let path = source.full_path(reference);
        paths.iter().any(|wanted| {
            let rest = path.strip_prefix(wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
    });
    references.map(|reference| reference.line).collect()
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

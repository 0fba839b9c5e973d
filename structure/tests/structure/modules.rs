//! Which modules of a crate use which of their siblings, and the cycles in that.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    paths::Reference,
    production, report,
    source::{self, Source},
    workspace::Workspace,
};

#[test]
fn sibling_modules_do_not_use_each_other_in_cycles() {
    let workspace = Workspace::load();
    let sources = source::read_all(&workspace);
    let mut faults = Vec::new();
    for package in &workspace.packages {
        let sources: Vec<_> = production(&sources)
            .filter(|it| it.package == package.name)
            .collect();
        faults.extend(cycles(&sources).into_iter().map(|Cycle { name, uses }| {
            format!(
                "{}: {name} use each other, so none of them can be read, moved or tested alone:\n    {}",
                package.name,
                uses.join("\n    ")
            )
        }));
    }
    report(&faults);
}

type Module = Vec<String>;

/// A use of one module by its sibling.
struct Use {
    from: String,
    to: String,
    /// File and line.
    place: String,
}

/// The cycles between modules that have the same parent.
fn cycles(sources: &[&Source]) -> Vec<Cycle> {
    let modules = Modules::new(sources);
    let mut uses: BTreeMap<Module, Vec<Use>> = BTreeMap::new();
    for source in sources {
        let Some(from) = &source.module else { continue };
        for reference in &source.references {
            let Some(to) = modules.resolve(from, reference) else {
                continue;
            };
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
                uses.entry(from[..common].to_vec()).or_default().push(Use {
                    from: a.clone(),
                    to: b.clone(),
                    place: format!("{}:{}", source.path, reference.line),
                });
            }
        }
    }
    (uses.iter())
        .flat_map(|(parent, uses)| cycles_among(parent, uses))
        .collect()
}

/// Modules of one parent that use each other, directly or through others of them.
struct Cycle {
    /// `parent::{a, b}`
    name: String,
    uses: Vec<String>,
}

fn cycles_among(parent: &[String], uses: &[Use]) -> Vec<Cycle> {
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for it in uses {
        reached.entry(&it.from).or_default().insert(&it.to);
    }
    // Warshall's closure: there are at most a few dozen modules.
    let names: Vec<_> = reached.keys().copied().collect();
    for via in &names {
        let beyond = reached[via].clone();
        for set in reached.values_mut().filter(|set| set.contains(via)) {
            set.extend(&beyond);
        }
    }
    let reaches = |a: &str, b: &str| reached.get(a).is_some_and(|set| set.contains(b));
    let mut cycles: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
    for it in uses {
        if reaches(&it.to, &it.from) {
            let ring = (names.iter().copied())
                .filter(|name| reaches(name, &it.from) && reaches(&it.from, name))
                .collect();
            let line = format!("{}: {} uses {}", it.place, it.from, it.to);
            cycles.entry(ring).or_default().push(line);
        }
    }
    let cycles = cycles.into_iter().map(|(ring, mut uses)| {
        uses.sort();
        uses.dedup();
        let parent: String = parent.iter().map(|it| format!("{it}::")).collect();
        let name = format!("{parent}{{{}}}", ring.join(", "));
        Cycle { name, uses }
    });
    cycles.collect()
}

/// The modules of a crate, and the names that each takes from others.
struct Modules<'a> {
    imports: BTreeMap<&'a [String], BTreeMap<&'a str, &'a Reference>>,
}

impl<'a> Modules<'a> {
    fn new(sources: &[&'a Source]) -> Self {
        let sources = sources.iter().filter_map(|source| {
            let module = source.module.as_deref()?;
            Some((module, source.imports()))
        });
        Self {
            imports: sources.collect(),
        }
    }

    /// The module where what is named is declared, as far as it can be told; nothing for other crates.
    fn resolve(&self, from: &[String], reference: &Reference) -> Option<Module> {
        if reference.is_method {
            return None;
        }
        self.follow(from, &reference.segments, 0)
    }

    fn follow(&self, from: &[String], segments: &[String], depth: usize) -> Option<Module> {
        let path = self.absolute(from, segments)?;
        let known = (0..=path.len())
            .rev()
            .find(|&end| self.imports.contains_key(&path[..end]))?;
        let (module, rest) = path.split_at(known);
        // A name that the module itself has from elsewhere.
        let re_exported = rest
            .first()
            .and_then(|name| self.imports[module].get(name.as_str()));
        match re_exported {
            Some(import) if depth < 8 => self
                .follow(module, &import.segments, depth + 1)
                .or_else(|| Some(module.to_vec())),
            _ => Some(module.to_vec()),
        }
    }

    /// A path from the root of the crate.
    fn absolute(&self, from: &[String], segments: &[String]) -> Option<Module> {
        let mut module = from.to_vec();
        let mut rest = segments;
        match segments.first()?.as_str() {
            "crate" => {
                module.clear();
                rest = &segments[1..];
            }
            "self" => rest = &segments[1..],
            "super" => {
                while rest.first().is_some_and(|it| it == "super") {
                    module.pop()?;
                    rest = &rest[1..];
                }
            }
            child => {
                module.push(child.to_owned());
                if !self.imports.contains_key(module.as_slice()) {
                    return None;
                }
                module.pop();
            }
        }
        module.extend_from_slice(rest);
        Some(module)
    }
}

#[test]
fn a_cycle_is_found_also_by_way_of_what_the_parent_exports() {
    let source = |path: &str, text| Source::new(format!("c/src/{path}.rs"), "c", text);
    let sources = [
        source("lib", "mod a; mod b;"),
        source(
            "a",
            "mod c; mod d; mod e; use self::c::Name; use crate::b::B;",
        ),
        source("a/c", "use super::d::D;"),
        source("a/d", "fn f(_: super::Name) {}"),
        source("a/e", "use super::{c, d};"),
        source("b", "struct B;"),
    ];
    let cycles = cycles(&sources.iter().collect::<Vec<_>>());
    let cycles: Vec<_> = cycles.into_iter().map(|it| (it.name, it.uses)).collect();
    let uses = ["c/src/a/c.rs:1: c uses d", "c/src/a/d.rs:1: d uses c"];
    assert_eq!(
        cycles,
        [("a::{c, d}".to_owned(), uses.map(str::to_owned).to_vec())]
    );
}

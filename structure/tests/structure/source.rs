//! The Rust files of the workspace, read as tokens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::paths::{self, Reference};
use crate::workspace::Workspace;

/// One file.
pub(crate) struct Source {
    /// From the root of the workspace, with `/`.
    pub(crate) path: String,
    pub(crate) package: String,
    /// Where the module is in its crate; empty for its root. Nothing for files that are not in `src`.
    pub(crate) module: Option<Vec<String>>,
    pub(crate) lines: usize,
    /// Without what is compiled for tests only.
    pub(crate) tokens: TokenStream,
    pub(crate) references: Vec<Reference>,
    /// What paths begin with, also in what is compiled for tests only.
    pub(crate) beginnings: BTreeSet<String>,
}

impl Source {
    pub(crate) fn new(path: String, package: &str, text: &str) -> Self {
        let tokens: TokenStream = (text.parse())
            .unwrap_or_else(|error| panic!("{path} does not consist of Rust tokens: {error}"));
        let all = paths::references(&tokens).into_iter();
        let tokens = without_tests(tokens);
        let inside = path.split_once("/src/").map(|(_, inside)| inside);
        Self {
            module: inside.map(module_of),
            package: package.to_owned(),
            lines: text.lines().count(),
            references: paths::references(&tokens),
            beginnings: all.map(|mut it| it.segments.swap_remove(0)).collect(),
            tokens,
            path,
        }
    }

    /// Whether this file is compiled for tests only.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| part == "tests" || part == "tests.rs")
    }

    /// Whether the file is one of these modules (`crate/src/module`, without `.rs`) or below one.
    pub(crate) fn is_in(&self, modules: &[&str]) -> bool {
        let path = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        modules.iter().any(|module| {
            let rest = path.strip_prefix(module);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// The path with the name that it begins with spelled out, if that is an imported one.
    pub(crate) fn full_path(&self, reference: &Reference) -> String {
        let (first, rest) = reference.segments.split_at(1);
        let import = match &reference.imported_as {
            None => self.imports().get(first[0].as_str()).copied(),
            Some(_) => None,
        };
        let beginning = import.map_or(first, |import| &import.segments);
        [beginning, rest].concat().join("::")
    }

    /// The names that this module takes from elsewhere by `use`, and the paths that they stand for.
    pub(crate) fn imports(&self) -> BTreeMap<&str, &Reference> {
        let imports = self.references.iter().filter_map(|reference| {
            let name = reference.imported_as.as_deref()?;
            Some((name, reference))
        });
        imports.collect()
    }
}

/// All Rust files of the packages.
pub(crate) fn read_all(workspace: &Workspace) -> Vec<Source> {
    let mut sources = Vec::new();
    for package in &workspace.packages {
        let mut files = Vec::new();
        find_files(&package.directory, &mut files);
        files.sort();
        sources.extend((files.iter()).map(|file| read(file, &package.name, workspace)));
    }
    assert!(sources.len() > 100, "found {} files only", sources.len());
    sources
}

/// Packages do not lie in each other, but for `examples/`, whose packages are members themselves.
fn find_files(directory: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).expect("a directory of the workspace can be read");
    for entry in entries {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                find_files(&path, files);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
}

fn read(file: &Path, package: &str, workspace: &Workspace) -> Source {
    let text = fs::read_to_string(file).expect("a source file can be read");
    Source::new(workspace.relative(file), package, &text)
}

/// The module that a file of `src/` holds.
fn module_of(inside: &str) -> Vec<String> {
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    match inside {
        "lib" | "main" => Vec::new(),
        _ => inside.split('/').map(str::to_owned).collect(),
    }
}

/// Removes the items under `#[cfg(test)]`.
fn without_tests(tokens: TokenStream) -> TokenStream {
    let mut kept = TokenStream::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_hash = matches!(&token, TokenTree::Punct(it) if it.as_char() == '#');
        if is_hash && tokens.peek().is_some_and(is_cfg_test) {
            tokens.next();
            skip_item(&mut tokens);
            continue;
        }
        kept.extend([match token {
            TokenTree::Group(group) => {
                let inner = without_tests(group.stream());
                let mut copy = proc_macro2::Group::new(group.delimiter(), inner);
                copy.set_span(group.span());
                TokenTree::Group(copy)
            }
            other => other,
        }]);
    }
    kept
}

fn is_cfg_test(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket
        && group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// An item ends with a semicolon or with its braces.
fn skip_item(tokens: &mut impl Iterator<Item = TokenTree>) {
    let mut is_use = false;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "use" => is_use = true,
            TokenTree::Punct(punct) if punct.as_char() == ';' => return,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !is_use => return,
            _ => {}
        }
    }
}

#[test]
fn paths_are_found_in_groups_of_a_use_in_macros_and_without_tests() {
    let text = r"
        use a::{b::{self, C as D}, e::*};
        fn f() { assert!(D::new().g() == crate::h!(1)) }
        #[cfg(test)]
        mod tests { use i::j; }
    ";
    let source = Source::new("some-crate/src/k.rs".to_owned(), "some-crate", text);
    let paths: Vec<_> = (source.references.iter())
        .filter(|it| it.segments.len() > 1 && !it.is_method)
        .map(|it| (source.full_path(it), it.line, it.is_macro_call))
        .collect();
    let expected = [
        ("a::b", 2, false),
        ("a::b::C", 2, false),
        ("a::e::*", 2, false),
        ("a::b::C::new", 3, false),
        ("crate::h", 3, true),
    ];
    assert_eq!(
        paths,
        expected.map(|(path, line, is_macro)| (path.to_owned(), line, is_macro))
    );
}

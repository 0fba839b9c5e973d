//! Paths such as `crate::users::Email` or `sqlx::query!`, wherever they stand in a file: also in the
//! arguments of macros, which a parser of Rust would not look into.

use proc_macro2::{TokenStream, TokenTree};

/// A path as it is written.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// The name under which `use` makes it known; `*` for a glob.
    pub(crate) imported_as: Option<String>,
    pub(crate) is_macro_call: bool,
    /// Behind a dot: a method.
    pub(crate) is_method: bool,
}

pub(crate) fn references(tokens: &TokenStream) -> Vec<Reference> {
    let mut found = Vec::new();
    collect(tokens, &mut found);
    found
}

fn collect(tokens: &TokenStream, found: &mut Vec<Reference>) {
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(ident) if ident == "use" => {
                at = collect_use(&tokens, at + 1, &[], found);
            }
            TokenTree::Ident(ident) => {
                let is_method = at > 0 && is_punct(tokens.get(at - 1), '.');
                let line = ident.span().start().line;
                let mut segments = vec![ident.to_string()];
                at += 1;
                while is_separator(&tokens, at) {
                    let Some(TokenTree::Ident(next)) = tokens.get(at + 2) else {
                        break;
                    };
                    segments.push(next.to_string());
                    at += 3;
                }
                let is_macro_call =
                    is_punct(tokens.get(at), '!') && !is_punct(tokens.get(at + 1), '=');
                found.push(Reference {
                    segments,
                    line,
                    imported_as: None,
                    is_macro_call,
                    is_method,
                });
            }
            TokenTree::Group(group) => {
                collect(&group.stream(), found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// One tree of a `use`, which begins at `at` below `prefix`. Where it ends.
fn collect_use(
    tokens: &[TokenTree],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<Reference>,
) -> usize {
    let mut segments = prefix.to_vec();
    loop {
        let line = tokens.get(at).map_or(0, |it| it.span().start().line);
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => {
                segments.push(ident.to_string());
                at += 1;
            }
            Some(TokenTree::Group(group)) => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                let mut start = 0;
                while start < inner.len() {
                    // Behind the comma.
                    start = collect_use(&inner, start, &segments, found) + 1;
                }
                return at + 1;
            }
            Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => {
                segments.push("*".to_owned());
                at += 1;
            }
            _ => return at + 1,
        }
        if is_separator(tokens, at) {
            at += 2;
            continue;
        }
        let mut name = segments.last().cloned();
        // `use a::{self}` makes `a` known.
        if name.as_deref() == Some("self") && segments.len() > 1 {
            segments.pop();
            name = segments.last().cloned();
        }
        if matches!(tokens.get(at), Some(TokenTree::Ident(ident)) if ident == "as") {
            name = tokens.get(at + 1).map(ToString::to_string);
            at += 2;
        }
        found.push(Reference {
            segments,
            line,
            imported_as: name,
            is_macro_call: false,
            is_method: false,
        });
        return at;
    }
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

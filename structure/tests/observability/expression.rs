//! Which metrics and labels a `PromQL` expression names. That it is valid, `promtool` checks.

use std::collections::BTreeSet;

const KEYWORDS: &[&str] = &[
    "and",
    "or",
    "unless",
    "offset",
    "bool",
    "group_left",
    "group_right",
];
const AGGREGATIONS: &[&str] = &["by", "without"];
const MATCHINGS: &[&str] = &["on", "ignoring"];

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Each with the labels that select its series.
    pub(crate) metrics: Vec<(String, BTreeSet<String>)>,
    /// Of groupings.
    pub(crate) labels: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Other(char),
}

pub(crate) fn names(expression: &str) -> Names {
    let tokens = tokens(expression);
    let mut names = Names::default();
    let mut at = 0;
    while at < tokens.len() {
        let Token::Name(name) = &tokens[at] else {
            at += 1;
            continue;
        };
        at += 1;
        match tokens.get(at) {
            _ if is_one_of(name, &[AGGREGATIONS, MATCHINGS].concat()) => {
                at = enclosed(&tokens, at, ')', &mut names.labels);
            }
            _ if is_one_of(name, KEYWORDS) => {}
            // A function.
            Some(Token::Other('(')) => {}
            Some(Token::Name(next)) if is_one_of(next, AGGREGATIONS) => {}
            Some(Token::Other('{')) => {
                let mut labels = BTreeSet::new();
                at = enclosed(&tokens, at, '}', &mut labels);
                names.metrics.push((name.clone(), labels));
            }
            _ => names.metrics.push((name.clone(), BTreeSet::new())),
        }
    }
    names
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.contains(&name)
}

/// The names up to the bracket that closes; where it stands.
fn enclosed(tokens: &[Token], from: usize, end: char, found: &mut BTreeSet<String>) -> usize {
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token {
            Token::Name(name) => _ = found.insert(name.clone()),
            Token::Other(it) if *it == end => return at,
            Token::Other(_) => {}
        }
    }
    tokens.len()
}

/// Names and punctuation, without texts, numbers and what stands in `[]`.
fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == ':';
        let length = match first {
            '"' => rest[1..].find('"').map_or(rest.len(), |at| at + 2),
            '[' => rest.find(']').map_or(rest.len(), |at| at + 1),
            _ if is_part(first) => rest.find(|it| !is_part(it)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if first.is_ascii_alphabetic() || first == '_' {
            tokens.push(Token::Name(token.to_owned()));
        } else if !first.is_whitespace() && !first.is_ascii_digit() && !"\"[".contains(first) {
            tokens.push(Token::Other(first));
        }
        rest = after;
    }
    tokens
}

#[test]
fn metrics_and_labels_are_found_wherever_they_stand() {
    let found = names(
        r#"sum by (job, le) (rate(a_total{status=~"5..",route!="x"}[5m])) / on (job) b > 1.5e3
           or absent(up{job="c d"} offset 30m) unless max(c)"#,
    );
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let metrics = [
        ("a_total".to_owned(), set(&["status", "route"])),
        ("b".to_owned(), set(&[])),
        ("up".to_owned(), set(&["job"])),
        ("c".to_owned(), set(&[])),
    ];
    assert_eq!(found.metrics, metrics);
    assert_eq!(found.labels, set(&["job", "le"]));
}

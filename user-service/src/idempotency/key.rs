//! The key under which a request may be repeated.

const MAX_BYTES: usize = 255;

/// 1 to 255 visible ASCII characters, such as a UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    /// Quoted, as the draft has it, or bare, as many clients send it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let quoted = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        let key = quoted.unwrap_or(text);
        let is_visible = key
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"');
        ((1..=MAX_BYTES).contains(&key.len()) && is_visible).then(|| Self(key.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn a_key_is_the_same_quoted_or_bare() {
        assert_eq!(Key::parse("\"8e03978e\""), Key::parse("8e03978e"));
        let long = "k".repeat(256);
        for bad in ["", "\"\"", "\"", "a b", "é", "a\"b", &long] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
        assert!(Key::parse(&long[1..]).is_some());
    }
}

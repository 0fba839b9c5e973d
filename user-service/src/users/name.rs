//! A user's name.

use utoipa::ToSchema;

/// 1 to 255 characters of any script, without white space around them or control characters.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
#[schema(
    min_length = 1,
    max_length = 255,
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$",
    example = "Ada Lovelace"
)]
pub(crate) struct Name(String);

const MAX_CHARACTERS: usize = 255;

impl Name {
    /// Trims and checks; the error is meant for the client.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("must not be blank");
        }
        if text.chars().count() > MAX_CHARACTERS {
            return Err("must have at most 255 characters");
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters");
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn a_name_of_any_script_is_kept_without_the_space_around_it() {
        for name in ["Ada", "李小龍", "  Zoë 🦀\t", "$ROOT.a"] {
            let parsed = Name::parse(name).expect("a name");
            assert_eq!(parsed.as_str(), name.trim());
        }
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert!(Name::parse(&"é".repeat(255)).is_ok());
        assert!(Name::parse(&"é".repeat(256)).is_err());
    }

    #[test]
    fn blank_names_and_control_characters_are_refused() {
        for name in ["", " \u{2003}\n", "a\0b", "a\u{7f}", "a\nb"] {
            assert!(Name::parse(name).is_err(), "{name:?}");
        }
    }
}

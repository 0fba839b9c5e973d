//! A user's name.

use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};
use utoipa::ToSchema;

/// 1 to 255 characters of any script, at least one of them visible, without white space around
/// them or control characters.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
#[schema(
    min_length = 1,
    max_length = 255,
    // Begins and ends as any name may; in between there is one visible character.
    pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*\
        [^\\s\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\
        \\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u2800\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb\
        \u{1bca0}-\u{1bca3}\u{1d159}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]\
        [^\\u0000-\\u001f\\u007f-\\u009f]*$",
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
        if text.chars().all(is_invisible) {
            return Err("must have a visible character");
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// White space and what Unicode tells programs to show as nothing: zero-width and bidirectional
/// controls, fillers, tags, variation selectors. Beside these a few that Unicode classes otherwise:
/// the empty Braille pattern, interlinear annotation, and the musical null notehead.
fn is_invisible(character: char) -> bool {
    character.is_whitespace()
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
        || matches!(
            character,
            '\u{2800}' | '\u{fff9}'..='\u{fffb}' | '\u{1d159}'
        )
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use utoipa::PartialSchema;

    use super::Name;

    #[test]
    fn the_description_has_the_same_rule() {
        let schema = serde_json::to_value(Name::schema()).expect("JSON");
        let pattern = schema["pattern"].as_str().expect("a pattern");
        let pattern = Regex::new(pattern).expect("a regular expression");
        // The planes that have invisible characters.
        for character in ('\0'..'\u{20000}').chain('\u{e0000}'..'\u{f0000}') {
            let name = character.to_string();
            assert_eq!(
                Name::parse(&name).is_ok(),
                pattern.is_match(&name),
                "{character:?}"
            );
        }
    }

    #[test]
    fn a_name_of_any_script_is_kept_without_the_space_around_it() {
        for name in ["Ada", "李小龍", "  Zoë 🦀\t", "$ROOT.a"] {
            let parsed = Name::parse(name).expect("a name");
            assert_eq!(parsed.as_str(), name.trim());
        }
    }

    #[test]
    fn names_that_nobody_can_see_are_refused() {
        for invisible in [
            "\u{200b}",
            "\u{2060}\u{2064}",
            "\u{feff}",
            "\u{ad}",
            "\u{202e}\u{202c}",
            "\u{2066} \u{2069}",
            "\u{115f}\u{1160}",
            "\u{3164}",
            "\u{ffa0}",
            "\u{2800}",
            "\u{fe0f}",
            "\u{e0100}",
            "\u{e0041}\u{e007f}",
            "\u{fff9}\u{fffb}",
        ] {
            assert!(Name::parse(invisible).is_err(), "{invisible:?}");
            // Beside a letter they have their uses.
            assert!(Name::parse(&format!("A{invisible}a")).is_ok());
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

//! Any bytes as a line of text.

/// Visible ASCII stands for itself, all else for `\n`, `\r`, `\t`, `\\` or `\x` and two digits.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    // Quotes need no escape here.
    let escaped = bytes.escape_ascii().to_string();
    escaped.replace("\\\"", "\"").replace("\\'", "'")
}

/// The bytes that [`escape`] wrote. A character beyond ASCII stands for itself in UTF-8.
///
/// # Panics
/// If an escape is none of these.
#[must_use]
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let (byte, behind) = escaped(rest).unwrap_or_else(|| panic!("not an escape in {text}"));
        bytes.push(byte);
        rest = behind;
    }
    bytes
}

fn escaped(rest: &[u8]) -> Option<(u8, &[u8])> {
    let (kind, rest) = rest.split_first()?;
    let byte = match kind {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'\\' => b'\\',
        b'x' => {
            let (digits, rest) = rest.split_at_checked(2)?;
            let digits = str::from_utf8(digits).ok()?;
            return Some((u8::from_str_radix(digits, 16).ok()?, rest));
        }
        _ => return None,
    };
    Some((byte, rest))
}

#[cfg(test)]
mod tests {
    use super::{escape, unescape};

    #[test]
    fn any_bytes_survive_as_a_line() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [
            &all[..],
            b"",
            b"\\\"",
            b"\"\\n'",
            b"\\x41",
            "Zo\u{eb}".as_bytes(),
        ] {
            let line = escape(bytes);
            assert!(!line.contains(char::is_control), "{line}");
            assert_eq!(unescape(&line), bytes, "{line}");
        }
        assert_eq!(unescape("Zo\u{eb}"), "Zo\u{eb}".as_bytes());
    }
}

//! Texts of the catalogue: bytes with escapes, names that stand for values, and repetitions.

use testkit::escape::unescape;

/// What names stand for, such as `id` for that of a user who is there.
pub(super) struct Values(Vec<(&'static str, String)>);

impl Values {
    pub(super) fn new(values: Vec<(&'static str, String)>) -> Self {
        Self(values)
    }

    /// The bytes of a text: `${name}` stands for a value, `${text*number}` for a text so many times, and
    /// escapes for bytes.
    pub(super) fn expand(&self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            let (name, behind) = behind.split_once('}').expect("the end of a name");
            bytes.extend(unescape(before));
            bytes.extend(self.value(name));
            rest = behind;
        }
        bytes.extend(unescape(rest));
        bytes
    }

    fn value(&self, name: &str) -> Vec<u8> {
        if let Some((_, value)) = self.0.iter().find(|(known, _)| *known == name) {
            return value.as_bytes().to_vec();
        }
        let (text, times) = name.rsplit_once('*').expect("a known name, or text*number");
        unescape(text).repeat(times.parse().expect("a number"))
    }
}

//! The number of a write, in what it stores.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u64);

/// Around the number in names: what a careless server would take for a field, a quote or a single byte.
const NAME: (&str, &str) = ("$email \"", "\" Žofie 🦀");
const EMAIL: (&str, &str) = ("w", "@example.com");

impl Token {
    pub(crate) fn name(self) -> String {
        format!("{}{}{}", NAME.0, self.0, NAME.1)
    }

    pub(crate) fn email(self) -> String {
        format!("{}{}{}", EMAIL.0, self.0, EMAIL.1)
    }

    /// Nothing if no write has such a name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        of(name, NAME).filter(|token| token.name() == name)
    }

    pub(crate) fn of_email(email: &str) -> Option<Self> {
        of(email, EMAIL).filter(|token| token.email() == email)
    }
}

fn of(text: &str, (before, after): (&str, &str)) -> Option<Token> {
    let number = text.strip_prefix(before)?.strip_suffix(after)?;
    Some(Token(number.parse().ok()?))
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "write {}", self.0)
    }
}

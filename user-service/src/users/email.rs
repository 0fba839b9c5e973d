//! A user's e-mail address.

use email_address::{EmailAddress, Options};
use utoipa::ToSchema;

/// A valid address of at most 254 bytes, kept as it was given and compared without regard to
/// case.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
#[schema(format = "email", max_length = 254, example = "ada@example.com")]
pub(crate) struct Email(String);

/// What fits between `<` and `>` of an SMTP path (RFC 5321, 4.5.3.1.3).
const MAX_BYTES: usize = 254;

impl Email {
    /// The error is meant for the client.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_BYTES {
            return Err("must have at most 254 bytes");
        }
        let options = Options::default()
            .without_display_text()
            .without_domain_literal();
        EmailAddress::parse_with_options(text, options)
            .map_err(|_| "must be a valid e-mail address")?;
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Email;

    #[test]
    fn a_valid_address_is_kept_as_given() {
        for email in [
            "Ada@Example.com",
            "o'neil+tag@sub.example.org",
            "我買@屋企.香港",
        ] {
            assert_eq!(Email::parse(email).expect("an address").as_str(), email);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("a@{}.com", "b".repeat(250));
        for email in [
            "",
            "ada",
            "a@",
            "@b.c",
            "a b@c.d",
            "Ada <a@b.c>",
            "a\0@b.c",
            &long,
        ] {
            assert!(Email::parse(email).is_err(), "{email:?}");
        }
    }
}

//! A user's e-mail address.

pub(super) mod normal_form;

use email_address::{EmailAddress, Options};
use utoipa::ToSchema;

/// A valid address of at most 254 bytes, kept as it was given and compared by its normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Email {
    text: String,
    normal: String,
}

/// A valid address of at most 254 bytes, kept as it was given. Case, Unicode composition and the
/// form of an internationalized domain make no difference when addresses are compared.
#[derive(ToSchema)]
#[schema(as = Email, format = "email", max_length = 254, example = "ada@example.com")]
#[expect(dead_code, reason = "nothing is read of a description")]
pub(super) struct EmailText(String);

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
        let normal = normal_form::of(text).ok_or("must have a valid domain")?;
        Ok(Self {
            text: text.to_owned(),
            normal,
        })
    }

    /// The address as the client wrote it.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Equal for all spellings of one address.
    pub(crate) fn normal(&self) -> &str {
        &self.normal
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

    #[test]
    fn a_domain_that_dns_can_not_have_is_refused() {
        let long = format!("a@{}.example", "ü".repeat(31) + &"é".repeat(31));
        for email in ["a@xn--a.example", "a@b\u{ff20}c.example", &long] {
            assert!(Email::parse(email).is_err(), "{email:?}");
        }
    }
}

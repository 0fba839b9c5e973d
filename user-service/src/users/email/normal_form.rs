//! The one form by which e-mail addresses are compared.
//!
//! - The domain is what DNS looks up: ASCII by UTS #46 (non-transitional), so that `bücher.example`
//!   and `xn--bcher-kva.example` are the same. UTS #46 keeps `ς` apart from `σ`: these are two
//!   domains.
//! - The local part is case-folded with Unicode's full folding, which depends neither on a locale
//!   nor on the place in a word (`Σ`, `σ` and `ς` become `σ`), and is NFC, as RFC 6532 recommends.
//!   NFKC would merge addresses that mail servers tell apart.
//! - A local part is quoted only if it must be: `"ada"@example.com` is `ada@example.com`.
//!
//! Unicode never changes the folding and normalization of characters that it has assigned, so
//! what is stored stays valid when these libraries are updated.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// The normal form of a valid address; `None` if DNS can't have its domain. Its length is bounded:
/// composing makes a local part of 64 bytes at most three times longer, and a domain has 253.
pub(in crate::users) fn of(address: &str) -> Option<String> {
    let (local, domain) = address.rsplit_once('@')?;
    let domain = Uts46::new().to_ascii(
        domain.as_bytes(),
        AsciiDenyList::URL,
        Hyphens::Allow,
        DnsLength::Verify,
    );
    let local = if local.is_ascii() && !local.starts_with('"') {
        local.to_ascii_lowercase()
    } else {
        fold(&unquote(local))
    };
    Some(format!("{}@{}", quote(local), domain.ok()?))
}

/// Texts that match regardless of case become equal (canonical caseless matching, section 3.13.5
/// of the Unicode standard).
fn fold(text: &str) -> String {
    let decomposed = DecomposingNormalizerBorrowed::new_nfd().normalize(text);
    let folded = CaseMapper::new().fold_string(&decomposed);
    let composed = ComposingNormalizerBorrowed::new_nfc().normalize(&folded);
    composed.into_owned()
}

/// What a quoted local part says (RFC 5322, section 3.2.4); any other is its own content.
fn unquote(local: &str) -> String {
    let quoted = local.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    let Some(quoted) = quoted else {
        return local.to_owned();
    };
    let mut content = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        content.push(match character {
            '\\' => characters.next().unwrap_or(character),
            _ => character,
        });
    }
    content
}

fn quote(content: String) -> String {
    let is_special = |it: char| " \"(),:;<>@[\\]".contains(it) || it.is_control();
    if !content.contains(is_special) && content.split('.').all(|atom| !atom.is_empty()) {
        return content;
    }
    format!("\"{}\"", content.replace('\\', r"\\").replace('"', r#"\""#))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::of;
    use crate::users::email::Email;

    fn normal(address: &str) -> String {
        let email = Email::parse(address).unwrap_or_else(|fault| panic!("{address}: {fault}"));
        email.normal().to_owned()
    }

    #[test]
    fn spellings_of_one_address_have_one_normal_form() {
        for (spelling, other) in [
            ("Ada@Example.COM", "ada@example.com"),
            ("İnci@example.com", "İNCI@example.com"),
            ("ΟΔΟΣ@example.com", "οδος@example.com"),
            ("οδοσ@example.com", "οδος@example.com"),
            ("Straße@example.com", "STRASSE@example.com"),
            ("\u{1112}\u{1161}\u{11ab}@example.com", "한@example.com"),
            ("\u{212a}@example.com", "k@example.com"),
            ("ada@bücher.example", "ada@xn--bcher-kva.example"),
            ("ada@BÜCHER.example", "ada@XN--BCHER-KVA.example"),
            ("\"ada\"@example.com", "ada@example.com"),
            (r#""a\d\a"@example.com"#, "ada@example.com"),
            (r#""A \da"@example.com"#, r#""a da"@example.com"#),
        ] {
            assert_eq!(normal(spelling), normal(other), "{spelling}");
        }
    }

    #[test]
    fn different_addresses_stay_different() {
        for (address, other) in [
            // Not the dotless one, nor the plain one.
            ("İ@example.com", "i@example.com"),
            ("ı@example.com", "i@example.com"),
            ("ａda@example.com", "ada@example.com"),
            ("ada+tag@example.com", "ada@example.com"),
            ("a.da@example.com", "ada@example.com"),
            (r#""\"ada\""@example.com"#, "ada@example.com"),
            ("ada@οδος.example", "ada@οδοσ.example"),
        ] {
            assert_ne!(normal(address), normal(other), "{address}");
        }
    }

    fn addresses() -> impl Strategy<Value = String> {
        let local = prop_oneof![
            "[a-zA-Z.+ßİςΣΐŉ\u{345}ᾳ\u{1d160}\u{fb2c}é\u{301}]{1,20}",
            "\\PC{1,16}",
            "\"[a\\\\\". @]{1,9}\""
        ];
        let domain = prop_oneof!["[a-zA-ZüßİςΣ]{1,12}\\.[a-z]{2,5}", "\\PC{1,12}\\.example"];
        (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"))
    }

    proptest! {
        #[test]
        fn the_normal_form_of_a_normal_form_is_itself(address in addresses()) {
            if let Some(normal) = of(&address) {
                prop_assert_eq!(of(&normal), Some(normal));
            }
        }

        #[test]
        fn the_normal_form_is_bounded(address in addresses()) {
            if let Ok(email) = Email::parse(&address) {
                prop_assert!(email.normal().len() <= 3 * 64 + 1 + 253);
            }
        }

        #[test]
        fn case_makes_no_difference(local in "[a-zA-ZßİςΣΐŉᾳéжЖ.]{1,20}") {
            let of = |local: String| of(&format!("{local}@example.com"));
            prop_assert_eq!(of(local.to_uppercase()), of(local.clone()));
            prop_assert_eq!(of(local.to_lowercase()), of(local));
        }
    }
}

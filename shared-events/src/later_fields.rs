//! Fields that a later revision of the payload has added, kept for whoever knows them. Numbers with a fraction are
//! kept exactly because of serde_json's feature `float_roundtrip`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const MAX_FIELDS: usize = 100;
const MAX_NAME_BYTES: usize = 64;
/// Far below what a document database takes.
const MAX_DEPTH: usize = 16;
/// A copy uses these names for something else.
const RESERVED: [&str; 2] = ["user_id", "deleted_at"];

/// The fields of the payload in `text` that are not in `known`, which is what this release has read
/// of them.
///
/// # Errors
/// If one of them is not what every store can keep: a name of lower-case letters, digits and `_`
/// that does not mean anything else, a value of moderate depth, numbers of 64 bits.
pub(crate) fn read(text: &str, known: &impl Serialize) -> Result<Map<String, Value>, String> {
    #[derive(Deserialize)]
    struct Event {
        payload: Map<String, Value>,
    }
    let event: Event = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut fields = event.payload;
    let known = serde_json::to_value(known).map_err(|error| error.to_string())?;
    fields.retain(|name, _| known.get(name).is_none());
    if fields.len() > MAX_FIELDS {
        return Err(format!("more than {MAX_FIELDS} unknown fields"));
    }
    for (place, (name, value)) in fields.iter().enumerate() {
        if !is_name(name) {
            return Err(format!("the name of unknown field {place} is not allowed"));
        }
        check(value, 0).map_err(|fault| format!("unknown field {name}: {fault}"))?;
    }
    Ok(fields)
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins_with_letter = name
        .bytes()
        .next()
        .is_some_and(|it| it.is_ascii_lowercase());
    begins_with_letter
        && name.len() <= MAX_NAME_BYTES
        && name.bytes().all(is_allowed)
        && !RESERVED.contains(&name)
}

fn check(value: &Value, depth: usize) -> Result<(), &'static str> {
    if depth > MAX_DEPTH {
        return Err("nested too deeply");
    }
    match value {
        Value::Number(number) if number.is_u64() && !number.is_i64() => {
            Err("a number above 64 bits")
        }
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth + 1)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            if !is_name(name) {
                return Err("a nested name that is not allowed");
            }
            check(value, depth + 1)
        }),
        _ => Ok(()),
    }
}

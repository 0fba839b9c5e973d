//! Fuzzing of merge patches.

use serde_json::{Value, json};
use service_runtime::problem::Problem;

use super::{Email, Name, Patch};

/// A merge patch that is accepted changes a user as RFC 7396 says, and leaves it valid. One that is
/// refused is not JSON, or would leave it invalid, and says which field is at fault.
///
/// # Panics
/// If it is not so.
pub fn merge_patch(bytes: &[u8]) {
    // What nobody reads may be out of range, too deep, or an unpaired surrogate.
    let patch = serde_json::from_slice::<Value>(bytes).ok();
    match Patch::parse(bytes) {
        Ok(patched) => {
            assert!(str::from_utf8(bytes).is_ok());
            is_normal(&patched);
            if let Some(patch) = patch {
                is_merged(&patched, &patch);
            }
        }
        Err(problem) => is_rightly_refused(&problem, patch.as_ref()),
    }
}

fn user() -> Value {
    json!({ "name": "Before", "email": "before@example.com" })
}

/// As RFC 7396, section 2, has it.
fn merge(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut target = match target {
        Value::Object(target) => target,
        _ => serde_json::Map::new(),
    };
    for (name, value) in patch {
        let before = target.remove(name).unwrap_or(Value::Null);
        if !value.is_null() {
            target.insert(name.clone(), merge(before, value));
        }
    }
    Value::Object(target)
}

fn is_merged(Patch(change): &Patch, patch: &Value) {
    let merged = merge(user(), patch);
    let (name, email) = (&merged["name"], &merged["email"]);
    let before = user();
    let name_now = change.name.as_ref().map(Name::as_str);
    let name_now = name_now.or(before["name"].as_str());
    assert_eq!(name_now, name.as_str().map(str::trim));
    let email_now = change.email.as_ref().map(Email::as_str);
    assert_eq!(email_now.or(before["email"].as_str()), email.as_str());
}

/// What is stored is read again as it is.
fn is_normal(Patch(change): &Patch) {
    if let Some(name) = &change.name {
        assert_eq!(Name::parse(name.as_str()).as_ref(), Ok(name));
    }
    if let Some(email) = &change.email {
        assert_eq!(Email::parse(email.as_str()).as_ref(), Ok(email));
        if let Ok(normal) = Email::parse(email.normal()) {
            assert_eq!(normal.normal(), email.normal());
        }
    }
}

fn is_rightly_refused(problem: &Problem, patch: Option<&Value>) {
    let problem = serde_json::to_value(problem).expect("JSON");
    if problem["type"] == "/problems/malformed-body" {
        assert!(patch.is_none(), "this is JSON: {problem}");
        return;
    }
    assert_eq!(problem["type"], "/problems/invalid-body");
    let errors = problem["errors"].as_array().expect("errors");
    let faults: Vec<_> = (errors.iter())
        .map(|error| error["pointer"].as_str().expect("a pointer"))
        .collect();
    let Some(patch) = patch else {
        return;
    };
    let merged = merge(user(), patch);
    let is_text = |field: &str, is_valid: &dyn Fn(&str) -> bool| {
        let is_whole = patch.is_object();
        is_whole && merged[field].as_str().is_some_and(is_valid)
    };
    let is_name = is_text("name", &|text| Name::parse(text).is_ok());
    let is_email = is_text("email", &|text| Email::parse(text).is_ok());
    match faults[..] {
        // The value has one of two fields of the same name.
        [""] if patch.is_object() => assert!(problem.to_string().contains("duplicate field")),
        [""] => {}
        _ => {
            assert_eq!(faults.contains(&"/name"), !is_name, "{problem}");
            assert_eq!(faults.contains(&"/email"), !is_email, "{problem}");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn merge_patches_survive_fuzzing() {
        testkit::fuzzing::replay("merge_patch", super::merge_patch);
    }
}

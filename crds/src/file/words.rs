//! What a parser says of a policy file, in the words of whoever wrote the file. What is not known here is told as it came.

use serde_json::{Number, Value};

use super::kind;

/// What is wrong with a value: the field, and what to write there. `at` is the path as the parser gives it.
pub(super) fn refusal(at: &str, error: &str, document: &Value) -> String {
    if let Some(field) = error.strip_prefix("missing field ").and_then(quoted) {
        let path = if at == "." { field.to_owned() } else { format!("{at}.{field}") };
        return format!("{path}: is missing");
    }
    let variant = error.strip_prefix("unknown variant ").and_then(|error| error.split_once(", expected "));
    if let Some((found, known)) = variant {
        let known = known.trim_start_matches("one of ").replace('`', "");
        return format!("{at}: {} is not known: write {known}", found.replace('`', ""));
    }
    let wrong = ["invalid type: ", "invalid value: "].iter().find_map(|start| error.strip_prefix(start));
    match wrong.and_then(|wrong| wrong.rsplit_once(", expected ")) {
        Some((_, expected)) => {
            let found = document.pointer(&pointer(at)).unwrap_or(&Value::Null);
            format!("{at}: {}", mismatch(found, expected))
        }
        None => format!("{at}: {error}"),
    }
}

/// Why a text is no YAML. Of a field that stands twice the parser speaks to programmers.
pub(super) fn no_yaml(error: &str) -> String {
    let Some((before, rest)) = error.split_once("duplicate mapping key: ") else {
        return format!("is no YAML: {error}");
    };
    let field = rest.split([',', ' ', '\n']).next().unwrap_or_default();
    let place = before.trim().trim_start_matches("error: ").trim_end_matches(':').trim();
    let place = if place.is_empty() { String::new() } else { format!(" ({place})") };
    format!("has the field {field} twice in one place{place}: keep one")
}

/// What to write instead of what stands there.
fn mismatch(found: &Value, expected: &str) -> String {
    let wanted = match expected {
        "a string" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "fields",
        _ if expected.starts_with("struct ") => "fields",
        _ if is_integer(expected) => "a whole number",
        other => other,
    };
    match (found, wanted) {
        // Amounts and durations: in quotes it would be refused again.
        (Value::Number(number), "text") if number.as_f64().is_some_and(|number| number < 0.0) => {
            format!("{number} is below 0: write 0 or more, with a unit or in quotes")
        }
        (Value::Number(number), "text") => format!("{number} is a number: write it in quotes, \"{number}\""),
        // YAML 1.1, as the API server's clients read it, has more words for truth values than true and false.
        (Value::Bool(yes), "text" | "string or map") => {
            let words = if *yes { "On or Yes" } else { "Off or No" };
            format!("{yes} is no word: YAML reads {words} as it, so write such a word in quotes")
        }
        (Value::Number(number), "a whole number") if largest(number).is_some() => {
            format!("{number} is outside {} to {}", i64::MIN, i64::MAX)
        }
        (Value::String(text), "a whole number") => {
            let number = text.trim_end_matches('%').trim().parse::<i64>().ok();
            let example = number.map_or_else(String::new, |number| format!(": write {number}"));
            format!("{text:?} is no whole number{example}")
        }
        _ => format!("write {wanted} instead of {}", kind(found)),
    }
}

/// What is nearest to a whole number that is too large for any field, or too far below 0.
pub(super) fn largest(number: &Number) -> Option<i64> {
    let near = number.as_f64()?;
    let is_too_large = number.as_i64().is_none() && near.fract() == 0.0;
    is_too_large.then_some(if near < 0.0 { i64::MIN } else { i64::MAX })
}

/// `i64`, `u32` and so on.
fn is_integer(expected: &str) -> bool {
    let bits = expected.strip_prefix(['i', 'u']);
    bits.is_some_and(|bits| !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The word between the first two back quotes.
fn quoted(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

/// `spec.classes[0].name` → `/spec/classes/0/name`.
pub(super) fn pointer(at: &str) -> String {
    let parts = at.split(['.', '[', ']']).filter(|part| !part.is_empty());
    parts.fold(String::new(), |pointer, part| pointer + "/" + part)
}

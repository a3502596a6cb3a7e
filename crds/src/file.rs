//! A policy from a file, for a host without Kubernetes: the same object as for `kubectl apply`.

use crate::names::{GROUP, VERSION};
use crate::policy::OvercommitPolicy;

/// Largest file that is read; a policy is a few KiB.
pub const MAX_BYTES: usize = 1 << 20;

/// Why a policy file cannot be used. `Display` is one sentence without the file's name.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Nothing but white space and comments.
    #[error("is empty: it must hold one OvercommitPolicy as for kubectl apply")]
    Empty,
    /// Over the size limit.
    #[error("has {0} bytes; a policy has at most {MAX_BYTES}")]
    TooLarge(usize),
    /// Not text.
    #[error("is not UTF-8 (first bad byte at offset {0}): save it as UTF-8")]
    NotUtf8(usize),
    /// Not YAML, or a value of the wrong type.
    #[error("{0}")]
    NotYaml(String),
    /// More than one document.
    #[error("holds several YAML documents: keep one OvercommitPolicy and remove the rest (look for \"---\")")]
    SeveralDocuments,
    /// Another kind of object.
    #[error("is a {found}: it must be an OvercommitPolicy of {GROUP}/{VERSION}")]
    OtherKind {
        /// apiVersion and kind found.
        found: String,
    },
    /// Fields that do not exist.
    #[error("unknown field {}: see the field list of kubectl explain ocp.spec --recursive", .0.join(", "))]
    UnknownFields(Vec<String>),
    /// Fields that cannot work.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<crate::resolve::FieldError>),
}

/// Reads one policy and checks all of it.
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn read(bytes: &[u8]) -> Result<OvercommitPolicy, FileError> {
    if bytes.len() > MAX_BYTES {
        return Err(FileError::TooLarge(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| FileError::NotUtf8(e.valid_up_to()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value = document(text)?;
    let field = |name: &str| value.get(name).and_then(serde_json::Value::as_str).unwrap_or("(none)");
    if field("kind") != "OvercommitPolicy" || field("apiVersion") != format!("{GROUP}/{VERSION}") {
        return Err(FileError::OtherKind { found: format!("{} of {}", field("kind"), field("apiVersion")) });
    }
    let policy = typed(value)?;
    crate::resolve::check(&policy.spec).map_err(FileError::Refused)?;
    Ok(policy)
}

fn document(text: &str) -> Result<serde_json::Value, FileError> {
    let mut documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(text).map_err(|e| FileError::NotYaml(format!("is no YAML: {e}")))?;
    documents.retain(|d| !d.is_null());
    match (documents.pop(), documents.is_empty()) {
        (None, _) => Err(FileError::Empty),
        (Some(_), false) => Err(FileError::SeveralDocuments),
        (Some(only), true) => Ok(only),
    }
}

fn typed(value: serde_json::Value) -> Result<OvercommitPolicy, FileError> {
    let mut unknown = Vec::new();
    let mut at = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut at);
    let parsed = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string().replace(".?", "")));
    let policy = parsed.map_err(|e: serde_json::Error| FileError::NotYaml(format!("{}: {e}", at.path())))?;
    // The derived root type does not know its own type fields; `read` has checked them.
    unknown.retain(|path| path != "apiVersion" && path != "kind");
    if unknown.is_empty() { Ok(policy) } else { Err(FileError::UnknownFields(unknown)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().to_string()
    }

    const HEAD: &str = "apiVersion: overcommit.dev/v1alpha1\nkind: OvercommitPolicy\nmetadata: {name: p}\n";

    #[test]
    fn a_policy_as_for_kubectl_is_read() {
        let text = format!("# mine\n{HEAD}spec:\n  mode: Enforce\n  reserve: {{minimum: 1Gi}}\n");
        let policy = read(text.as_bytes()).unwrap();
        assert_eq!(policy.spec.mode, crate::policy::Mode::Enforce);
        assert_eq!(policy.spec.reserve.growth_percentile, 99);
    }

    #[test]
    fn files_that_are_no_policy_are_refused_with_the_remedy() {
        assert!(refusal("").contains("is empty"));
        assert!(refusal("# only a comment\n").contains("is empty"));
        assert!(refusal("a: [1").contains("no YAML"));
        assert!(read(b"\xff\xfe").unwrap_err().to_string().contains("UTF-8"));
        assert!(refusal("apiVersion: v1\nkind: ConfigMap\n").contains("is a ConfigMap of v1"));
        assert!(refusal("just text").contains("(none)"));
        let one = format!("{HEAD}spec: {{}}\n");
        assert!(refusal(&format!("{one}---\n{one}")).contains("several"));
    }

    #[test]
    fn unknown_and_impossible_fields_are_named_by_path() {
        let of = |spec: &str| refusal(&format!("{HEAD}spec: {spec}\n"));
        assert!(of("{mod: Enforce}").contains("spec.mod"), "{}", of("{mod: Enforce}"));
        assert!(of("{engine: {adaptive: {}, mom: {}}}").contains("spec.engine.mom"));
        assert!(of("{interval: 9h}").contains("spec.interval"));
        assert!(of("{mode: Force}").contains("spec.mode"), "{}", of("{mode: Force}"));
        assert!(of("{priority: high}").contains("spec.priority"));
        assert!(of("{reserve: {minimum: 101%}}").contains("spec.reserve.minimum"));
    }
}

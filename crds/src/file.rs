//! A policy from a file, for a host without Kubernetes: the same object as for `kubectl apply`.

mod words;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::names::{GROUP, VERSION};
use crate::policy::{OvercommitPolicy, OvercommitPolicySpec};
use crate::program::{self, Doubts};
use crate::selector::Selector;

/// Largest file that is read; a policy is a few KiB.
pub const MAX_BYTES: usize = 1 << 20;

/// Why a policy file cannot be used. `Display` is one sentence without the file's name.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Nothing but white space and comments.
    #[error("is empty: it must hold one OvercommitPolicy as for kubectl apply")]
    Empty,
    /// Over the size limit.
    #[error("has {0} bytes; at most {MAX_BYTES} are read")]
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
    #[error("{found}: it must begin with apiVersion: {GROUP}/{VERSION} and kind: OvercommitPolicy")]
    OtherKind {
        /// What it is instead.
        found: String,
    },
    /// Fields that do not exist.
    #[error("unknown field {}: see the field list of kubectl explain ocp.spec --recursive", .0.join(", "))]
    UnknownFields(Vec<String>),
    /// Fields that cannot work.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<crate::resolve::FieldError>),
}

/// What of a policy does nothing on a host without Kubernetes, or nowhere, and what it or its program probably does not mean: each
/// a sentence that names the field.
pub fn idle(spec: &OvercommitPolicySpec) -> Vec<String> {
    let mut idle = Vec::new();
    if spec.node_selector.is_some() {
        idle.push(
            "spec.nodeSelector selects nothing here: there are no nodes, the policy holds on this host"
                .to_owned(),
        );
    }
    if spec.ksm.across_namespaces {
        idle.push(
            "spec.ksm.acrossNamespaces changes nothing here: there are no namespaces, and all guests are merged"
                .to_owned(),
        );
    }
    idle.extend(crate::resolve::doubts(spec));
    let Doubts { unmeant, unsupported } = program::check(spec).unwrap_or_default();
    idle.extend(unmeant.into_iter().map(|warning| format!("spec.engine.mom: {warning}")));
    idle.extend(
        unsupported.into_iter().map(|control| format!("spec.engine.mom: nobody here acts on {control}")),
    );
    let mut all = None;
    for (index, class) in spec.classes.iter().enumerate() {
        if class.namespace_selector.is_some() {
            idle.push(format!(
                "spec.classes[{index}].namespaceSelector: there are no namespaces here, so class {} gets no guest",
                class.name
            ));
        }
        if let Some(before) = all {
            idle.push(format!(
                "spec.classes[{index}] ({}) gets no guest: {before} before it takes all",
                class.name
            ));
        } else if class.namespace_selector.is_none() && selects_all(class.selector.as_ref()) {
            all = Some(class.name.as_str());
        }
    }
    idle
}

fn selects_all(selector: Option<&Selector>) -> bool {
    selector.is_none_or(|selector| *selector == Selector::default())
}

/// Reads one policy and checks all of it.
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn read(bytes: &[u8]) -> Result<OvercommitPolicy, FileError> {
    let value = value(bytes)?;
    is_policy(&value)?;
    let policy = typed(&value)?;
    crate::resolve::check(&policy.spec).map_err(FileError::Refused)?;
    Ok(policy)
}

/// The only document of a file, whatever it holds.
///
/// # Errors
/// When it is too large, no text, no YAML, empty, or holds several documents.
pub fn value(bytes: &[u8]) -> Result<Value, FileError> {
    if bytes.len() > MAX_BYTES {
        return Err(FileError::TooLarge(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| FileError::NotUtf8(e.valid_up_to()))?;
    document(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Reads `value` as what denies unknown fields itself (no policy does: the API server drops them).
///
/// # Errors
/// The field and what to write there, in the words of the file.
pub fn strictly<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    let mut at = serde_path_to_error::Track::new();
    let parsed = T::deserialize(serde_path_to_error::Deserializer::new(value, &mut at));
    parsed.map_err(|e: serde_json::Error| words::refusal(&at.path().to_string(), &e.to_string(), value))
}

/// The file is an object of our kind and version.
fn is_policy(value: &Value) -> Result<(), FileError> {
    let field = |name: &str| value.get(name).and_then(Value::as_str);
    let of = format!("{GROUP}/{VERSION}");
    let found = match (field("kind"), field("apiVersion")) {
        (Some("OvercommitPolicy"), Some(version)) if version == of => return Ok(()),
        (Some("OvercommitPolicy"), Some(version)) => format!("is of apiVersion {version}"),
        (Some(kind), Some(version)) => format!("has kind {kind} of {version}"),
        (Some(kind), None) => format!("has kind {kind} and no apiVersion"),
        (None, Some(version)) => format!("has apiVersion {version} and no kind"),
        (None, None) if value.is_object() => "has neither apiVersion nor kind".to_owned(),
        (None, None) => format!("holds {} instead of fields", kind(value)),
    };
    Err(FileError::OtherKind { found })
}

/// What stands there, in a person's words.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Object(_) => "fields".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        scalar => scalar.to_string(),
    }
}

fn document(text: &str) -> Result<Value, FileError> {
    let mut documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|e| FileError::NotYaml(words::no_yaml(&e.to_string())))?;
    documents.retain(|d| !d.is_null());
    match (documents.pop(), documents.is_empty()) {
        (None, _) => Err(FileError::Empty),
        (Some(_), false) => Err(FileError::SeveralDocuments),
        (Some(only), true) => Ok(only),
    }
}

fn typed(value: &Value) -> Result<OvercommitPolicy, FileError> {
    let mut unknown = Vec::new();
    let mut at = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut at);
    let parsed = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string().replace(".?", "")));
    let policy = parsed.map_err(|e: serde_json::Error| {
        let place = at.path().to_string();
        let told = out_of_range(&place, value).or_else(|| no_better_in_quotes(&place, value));
        FileError::NotYaml(told.unwrap_or_else(|| words::refusal(&place, &e.to_string(), value)))
    })?;
    // The derived root type does not know its own type fields; `read` has checked them.
    unknown.retain(|path| path != "apiVersion" && path != "kind");
    if unknown.is_empty() { Ok(policy) } else { Err(FileError::UnknownFields(unknown)) }
}

/// What is said of a number that no field can hold: the same as of the largest that one can, for that names the range.
fn out_of_range(place: &str, value: &Value) -> Option<String> {
    let number = value.pointer(&words::pointer(place))?.as_number()?;
    let largest = words::largest(number)?;
    let told = refused_there(place, value, largest.into())?;
    Some(told.replace(&largest.to_string(), &number.to_string()))
}

/// What is said of a number where text belongs that would be refused in quotes too, such as a duration without its unit.
fn no_better_in_quotes(place: &str, value: &Value) -> Option<String> {
    let number = value.pointer(&words::pointer(place))?.as_number()?;
    number.as_f64().filter(|number| *number >= 0.0)?;
    let text = number.to_string();
    Some(refused_there(place, value, text.as_str().into())?.replace(&format!("{text:?}"), &text))
}

/// What is said of this in that place; nothing where it would do, or does not belong.
fn refused_there(place: &str, value: &Value, other: Value) -> Option<String> {
    let mut held = value.clone();
    *held.pointer_mut(&words::pointer(place))? = other;
    let refused = crate::resolve::check(&typed(&held).ok()?.spec).err()?;
    refused.iter().map(ToString::to_string).find(|told| told.starts_with(&format!("{place}: ")))
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
        let must = ": it must begin with apiVersion: overcommit.dev/v1alpha1 and kind: OvercommitPolicy";
        for (text, found) in [
            ("apiVersion: v1\nkind: ConfigMap\n", "has kind ConfigMap of v1"),
            ("apiVersion: overcommit.dev/v1\nkind: OvercommitPolicy\n", "is of apiVersion overcommit.dev/v1"),
            ("kind: OvercommitPolicy\n", "has kind OvercommitPolicy and no apiVersion"),
            ("apiVersion: v1\n", "has apiVersion v1 and no kind"),
            ("spec: {}\n", "has neither apiVersion nor kind"),
            ("just text", "holds \"just text\" instead of fields"),
            ("[1]", "holds a list instead of fields"),
        ] {
            assert_eq!(refusal(text), format!("{found}{must}"));
        }
        let one = format!("{HEAD}spec: {{}}\n");
        assert!(refusal(&format!("{one}---\n{one}")).contains("several"));
    }

    #[test]
    fn unknown_and_impossible_fields_are_named_by_path() {
        let of = |spec: &str| refusal(&format!("{HEAD}spec: {spec}\n"));
        assert!(of("{mod: Enforce}").contains("spec.mod"), "{}", of("{mod: Enforce}"));
        assert!(of("{engine: {adaptive: {}, mum: {}}}").contains("spec.engine.mum"));
        assert!(of("{interval: 9h}").contains("spec.interval"));
        assert!(of("{mode: Force}").contains("spec.mode"), "{}", of("{mode: Force}"));
        assert!(of("{priority: high}").contains("spec.priority"));
        assert!(of("{reserve: {minimum: 101%}}").contains("spec.reserve.minimum"));
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_in_the_words_of_the_file() {
        for (spec, told) in [
            (
                "spec: {reserve: {minimum: 1073741824}}",
                "spec.reserve.minimum: 1073741824 is a number: write it in quotes, \"1073741824\"",
            ),
            (
                "spec: {interval: 5}",
                "spec.interval: 5 is no period: write a duration from 1s to 5m in one unit, such as 5s or 90s",
            ),
            (
                "spec: {classes: [{name: a, floor: {percent: 25%}}]}",
                "spec.classes[0].floor.percent: \"25%\" is no whole number: write 25",
            ),
            ("spec: {priority: high}", "spec.priority: \"high\" is no whole number"),
            ("spec: 7", "spec: write fields instead of 7"),
            ("spec:", "spec: write fields instead of nothing"),
            ("other: {}", "spec: is missing"),
            ("spec: {classes: [{weight: 1}]}", "spec.classes[0].name: is missing"),
            ("spec: {classes: {}}", "spec.classes: write a list instead of fields"),
            (
                "spec: {engine: {adaptive: {headroomPercent: 30%}}}",
                "spec.engine.adaptive.headroomPercent: \"30%\" is no whole number: write 30",
            ),
            (
                "spec: {engine: {adaptive: {turnSeconds: 5}}}",
                "spec.engine.adaptive.turnSeconds: 5 is outside 30 to 1800",
            ),
            ("spec: {mode: Force}", "spec.mode: Force is not known: write Observe or Enforce"),
            ("spec: {ksm: {mode: Always}}", "spec.ksm.mode: Always is not known: write Off, Auto, Program"),
            (
                "spec: {parameters: {share: 0.05}}",
                "spec.parameters.share: write a whole number (1 for true, 0 for false), or a number in quotes such as \"0.05\", \
                 instead of 0.05",
            ),
            (
                "spec: {engine: {mom: {slots: [{name: a, program: '(foo)'}]}}}",
                "spec.engine.mom: a:1:2: undefined function foo",
            ),
            (
                "spec: {engine: {mom: {slots: [{name: a, configMapKeyRef: {name: b, key: c}}]}}}",
                "spec.engine.mom.slots[0].configMapKeyRef: there are no ConfigMaps here: write the text of the slot under program",
            ),
            (
                "spec: {ksm: {mode: Off}}",
                "spec.ksm.mode: false is no word: YAML reads Off or No as it, so write such a word in quotes",
            ),
            (
                "spec: {classes: [{name: a, exclude: 'yes'}]}",
                "spec.classes[0].exclude: write true or false instead of \"yes\"",
            ),
        ] {
            assert_eq!(refusal(&format!("{HEAD}{spec}\n")), told);
        }
    }

    #[test]
    fn of_a_number_that_no_field_takes_it_is_said_which_ones_are_taken() {
        for (spec, told) in [
            (
                "spec: {reserve: {minimum: -1}}",
                "spec.reserve.minimum: -1 is below 0: write 0 or more, with a unit or in quotes",
            ),
            (
                "spec: {classes: [{name: a, weight: 18446744073709551615}]}",
                "spec.classes[0].weight: 18446744073709551615 is outside 1 to 10000",
            ),
            (
                "spec: {priority: 18446744073709551615}",
                "spec.priority: 18446744073709551615 is outside -9223372036854775808 to 9223372036854775807",
            ),
        ] {
            assert_eq!(refusal(&format!("{HEAD}{spec}\n")), told);
        }
    }

    #[test]
    fn a_field_that_stands_twice_is_named_without_advice_for_programmers() {
        let told = refusal(&format!("{HEAD}spec:\n  mode: Observe\n  mode: Enforce\n"));
        assert!(told.contains("has the field mode twice") && !told.contains("Options"), "{told}");
    }

    #[test]
    fn what_does_nothing_on_a_host_without_kubernetes_is_named() {
        let idle = |spec: &str| idle(&read(format!("{HEAD}spec: {spec}\n").as_bytes()).unwrap().spec);
        let of_shop = "{matchLabels: {team: shop}}";
        assert_eq!(idle("{classes: [{name: a, selector: {matchLabels: {name: b}}}, {name: rest}]}"), [""; 0]);
        let mut told = idle(&format!(
            "{{nodeSelector: {of_shop}, ksm: {{acrossNamespaces: true}}, classes: [{{name: a, namespaceSelector: {of_shop}}}, {{name: all}}, {{name: late}}]}}"
        ));
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told.remove(1).starts_with("spec.ksm.acrossNamespaces "), "{told:?}");
        assert!(told[0].starts_with("spec.nodeSelector "), "{told:?}");
        assert!(told[1].starts_with("spec.classes[0].namespaceSelector: ") && told[1].ends_with("no guest"));
        assert_eq!(told[2], "spec.classes[2] (late) gets no guest: all before it takes all");
        assert!(
            idle("{limits: {takePerNode: 0%}}")[0].starts_with("spec.limits.takePerNode is 0%, so nothing")
        );
    }
}

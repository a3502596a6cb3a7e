//! What people and the API server say: policy files, and the parts of policies that are text.

use overcommit_core::units::{Amount, Bytes, Permille};
use overcommit_crds::classify::{Subject, classify};
use overcommit_crds::names::EXCLUDE_ANNOTATION;
use overcommit_crds::node::Exclusion;
use overcommit_crds::policy::ClassSpec;
use overcommit_crds::quantity::{Period, Size, SizeOrPercent};
use overcommit_crds::selector::{Labels, Operator, Requirement, Selector};
use overcommit_crds::{file, resolve};

use crate::lossy;

/// A file is a policy that works and reads the same once more, or is refused in words that do not outgrow it.
pub(crate) fn file(bytes: &[u8]) {
    let policy = match file::read(bytes) {
        Ok(policy) => policy,
        Err(why) => {
            let why = why.to_string();
            assert!(
                !why.is_empty() && why.len() <= 64 * bytes.len() + (8 << 10),
                "{} of {}",
                why.len(),
                bytes.len()
            );
            return;
        }
    };
    let resolved = resolve::resolve(&policy.spec);
    assert!(resolve::validate(&resolved, "spec").is_ok());
    let again = serde_json::json!({
        "apiVersion": "overcommit.dev/v1alpha1",
        "kind": "OvercommitPolicy",
        "metadata": { "name": "p" },
        "spec": policy.spec,
    });
    let again = file::read(again.to_string().as_bytes()).expect("a policy that was written");
    assert_eq!(again.spec, policy.spec);
    assert_eq!(resolve::revision(&resolve::resolve(&again.spec)), resolve::revision(&resolved));
}

/// Up to `most` digits, at least one, and what follows them.
fn digits(text: &str, most: usize) -> Option<&str> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (1..=most).contains(&(text.len() - rest.len())).then_some(rest)
}

/// Digits with up to `decimals` behind a point, and what follows them.
fn decimal(text: &str, most: usize, decimals: usize) -> Option<&str> {
    let rest = digits(text, most)?;
    rest.strip_prefix('.').map_or(Some(rest), |fraction| digits(fraction, decimals))
}

/// As the schema has it: `[0-9]{1,12}(\.[0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)?`.
fn is_size(text: &str) -> bool {
    let suffixes = ["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    decimal(text, 12, 3).is_some_and(|suffix| suffixes.contains(&suffix))
}

/// As the schema has it: `(100(\.0)?|[0-9]{1,2}(\.[0-9])?)%`.
fn is_percentage(text: &str) -> bool {
    matches!(text, "100%" | "100.0%") || decimal(text, 2, 1) == Some("%")
}

/// As the schema has it: `[0-9]{1,6}(ms|s|m)`, from 1s to 5m.
fn is_period(text: &str) -> bool {
    let Some(unit) = digits(text, 6) else { return false };
    let number: u64 = text[..text.len() - unit.len()].parse().expect("six digits");
    let scale = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return false,
    };
    (1000..=300_000).contains(&(number * scale))
}

/// What a file may say is what the schema takes, as far as there is such an amount.
pub(crate) fn amounts(bytes: &[u8]) {
    let text = lossy(bytes).into_owned();
    let size = Size(text.clone()).parse();
    let either = SizeOrPercent(text.clone()).parse();
    match &size {
        Ok(bytes) => {
            assert!(is_size(&text), "{text}");
            assert_eq!(either, Ok(Amount::Bytes(*bytes)));
            let shown = Size::from_bytes(*bytes);
            let unit = if *bytes < Bytes::new(1 << 59) { Bytes::from_mib(1) } else { Bytes::from_gib(1) };
            let read = shown.parse().expect("what was written");
            assert!(read <= *bytes && bytes.minus(read) < unit, "{shown:?}");
        }
        // 16 EiB and more are no amount of memory; 18446745T is the shortest such.
        Err(why) => assert!(why.contains("write bytes") && (!is_size(&text) || text.len() > 8), "{text}"),
    }
    match &either {
        Ok(Amount::Part(part)) => assert!(is_percentage(&text) && *part <= Permille::new(1000), "{text}"),
        Ok(Amount::Bytes(_)) => assert!(size.is_ok(), "{text}"),
        Err(why) => assert!(why.contains("write bytes") && !is_percentage(&text), "{text}"),
    }
    assert_eq!(Period(text.clone()).parse().is_ok(), is_period(&text), "{text}");
}

fn only(requirement: &Requirement, operator: Operator) -> Selector {
    let requirement = Requirement { operator, ..requirement.clone() };
    Selector { match_expressions: vec![requirement], ..Selector::default() }
}

/// An operator and its opposite never agree, and a requirement more never selects more.
pub(crate) fn selector(bytes: &[u8]) {
    let Ok((selector, labels)) = serde_json::from_slice::<(Selector, Labels)>(bytes) else { return };
    if let Err((place, why)) = selector.check() {
        assert!(place.starts_with("match") && !why.is_empty(), "{place}: {why}");
    }
    let matches = selector.matches(&labels);
    for requirement in &selector.match_expressions {
        let of = |operator| only(requirement, operator).matches(&labels);
        assert_ne!(of(Operator::In), of(Operator::NotIn));
        assert_ne!(of(Operator::Exists), of(Operator::DoesNotExist));
        assert!(!of(Operator::In) || of(Operator::Exists));
        assert!(!matches || of(requirement.operator));
    }
    assert!(Selector::default().matches(&labels));
    let text = serde_json::to_vec(&selector).expect("a selector can be written");
    assert_eq!(serde_json::from_slice::<Selector>(&text).expect("and read"), selector);
}

/// The first class that selects a guest holds, and the opt-out wins over all.
pub(crate) fn classes(bytes: &[u8]) {
    type Guest = (Labels, Labels, Option<Labels>, Option<Labels>);
    let Ok((classes, guest)) = serde_json::from_slice::<(Vec<ClassSpec>, Guest)>(bytes) else { return };
    let (labels, annotations, namespace_labels, namespace_annotations) = &guest;
    let subject = Subject {
        labels,
        annotations,
        namespace_labels: namespace_labels.as_ref(),
        namespace_annotations: namespace_annotations.as_ref(),
    };
    let (class, excluded) = classify(&classes, &subject);
    assert_eq!(classify(&[], &subject).0, None);
    let out =
        |of: Option<&Labels>| of.is_some_and(|a| a.get(EXCLUDE_ANNOTATION).is_some_and(|v| v == "true"));
    let opted_out = out(Some(annotations)) || out(namespace_annotations.as_ref());
    assert_eq!(excluded == Some(Exclusion::Annotation), opted_out);
    match class {
        Some(name) => {
            let named = |c: &ClassSpec| c.name == name;
            let at = classes.iter().position(named).expect("one of them");
            if classes.iter().filter(|c| named(c)).count() > 1 {
                return; // refused before anybody is classified
            }
            assert!(classify(&classes[..at], &subject).0.is_none());
            assert_eq!(classify(&classes[..=at], &subject).0, Some(name));
        }
        None => assert!(opted_out || excluded == Some(Exclusion::NoClass)),
    }
}

//! Label selectors, with rules that refuse what could never match.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Most values of a requirement. With 32 classes and 16 requirements in each of their selectors this is what the API
/// server's estimate of the rules' cost leaves room for.
const VALUES_MAX: usize = 48;
/// Longest prefix of a label's name (apimachinery/pkg/util/validation, `DNS1123SubdomainMaxLength`).
const PREFIX_MAX: usize = 253;
/// Longest name after the prefix, and longest value (apimachinery/pkg/util/validation, `LabelValueMaxLength`).
const NAME_MAX: usize = 63;

const KEY_HELP: &str = "write the name of a label, such as tier or example.com/tier";
const VALUE_HELP: &str = "write the value of a label: up to 63 letters, digits, dashes, underscores and dots, with a \
                          letter or digit at both ends, such as gold";
const VALUES_MISSING: &str =
    "operators In and NotIn need at least one entry in values, such as values: [gold]";
const VALUES_UNWANTED: &str = "operators Exists and DoesNotExist take no values: remove them";

fn label_key_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": PREFIX_MAX + 1 + NAME_MAX,
        "x-kubernetes-validations": [{
            "rule": "!format.qualifiedName().validate(self).hasValue()",
            "message": KEY_HELP,
        }],
    })
}

fn label_value_schema() -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": NAME_MAX,
        "x-kubernetes-validations": [{
            // As format.labelValue() has it, which is estimated at ten times the cost: over the budget of a CRD.
            "rule": "self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",
            "message": VALUE_HELP,
        }],
    })
}

fn values_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": VALUES_MAX,
        "items": label_value_schema(),
        "x-kubernetes-list-type": "set",
    })
}

fn match_labels_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": label_value_schema(),
        "x-kubernetes-validations": [{
            "rule": "self.all(key, !format.qualifiedName().validate(key).hasValue())",
            "message": KEY_HELP,
        }],
    })
}

/// Selects objects by their labels; empty selects everything. All parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Labels that must be there with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "match_labels_schema")]
    pub match_labels: Labels,
    /// Further requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
        "message": VALUES_MISSING,
        "fieldPath": ".values"
    },
    {
        "rule": "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
        "message": VALUES_UNWANTED,
        "fieldPath": ".values"
    }
]))]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// The label's name.
    #[schemars(schema_with = "label_key_schema")]
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// The values for In and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "values_schema")]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The label's value is one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl Selector {
    /// True if the labels satisfy every part (apimachinery/pkg/apis/meta/v1/helpers.go, `LabelSelectorAsSelector`).
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|r| r.matches(labels))
    }

    /// What can never match, for people.
    ///
    /// # Errors
    /// The place below this selector, and what to write instead.
    pub fn check(&self) -> Result<(), (String, String)> {
        for (key, value) in &self.match_labels {
            refuse_unless(is_label_key(key), "matchLabels", || {
                format!("{key:?} names no label: {KEY_HELP}")
            })?;
            let place = format!("matchLabels[{key}]");
            refuse_unless(is_label_value(value), &place, || unfit(value))?;
        }
        self.match_expressions.iter().enumerate().try_for_each(|(index, requirement)| {
            requirement
                .check()
                .map_err(|(field, message)| (format!("matchExpressions[{index}].{field}"), message))
        })
    }
}

fn refuse_unless(good: bool, place: &str, message: impl FnOnce() -> String) -> Result<(), (String, String)> {
    if good { Ok(()) } else { Err((place.to_owned(), message())) }
}

fn unfit(value: &str) -> String {
    format!("{value:?} is the value of no label: {VALUE_HELP}")
}

/// `name` or `prefix/name` (apimachinery/pkg/util/validation, `IsQualifiedName`).
fn is_label_key(key: &str) -> bool {
    let dns = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        part.bytes().all(inner) && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    let (prefix, name) = match key.split_once('/') {
        None => (None, key),
        Some((prefix, name)) => (Some(prefix), name),
    };
    prefix.is_none_or(|p| p.len() <= PREFIX_MAX && p.split('.').all(dns))
        && !name.is_empty()
        && is_label_value(name)
}

/// Empty, or alphanumeric at both ends (apimachinery/pkg/util/validation, `IsValidLabelValue`).
fn is_label_value(value: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    let inner = |c: char| ends(c) || matches!(c, '-' | '_' | '.');
    value.is_empty()
        || (value.len() <= NAME_MAX
            && value.chars().all(inner)
            && value.starts_with(ends)
            && value.ends_with(ends))
}

impl Requirement {
    fn check(&self) -> Result<(), (String, String)> {
        let wants_values = matches!(self.operator, Operator::In | Operator::NotIn);
        let key = || format!("{:?} names no label: {KEY_HELP}", self.key);
        refuse_unless(is_label_key(&self.key), "key", key)?;
        refuse_unless(!wants_values || !self.values.is_empty(), "values", || VALUES_MISSING.to_owned())?;
        refuse_unless(wants_values || self.values.is_empty(), "values", || VALUES_UNWANTED.to_owned())?;
        self.values.iter().enumerate().try_for_each(|(at, value)| {
            refuse_unless(is_label_value(value), &format!("values[{at}]"), || unfit(value))
        })
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn requirement(key: &str, operator: Operator, values: &[&str]) -> Selector {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        Selector {
            match_expressions: vec![Requirement { key: key.into(), operator, values }],
            ..Selector::default()
        }
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(Selector::default().matches(&labels(&[])));
    }

    #[test]
    fn operators_mean_what_kubernetes_means() {
        let gold = labels(&[("tier", "gold")]);
        assert!(requirement("tier", Operator::In, &["gold", "silver"]).matches(&gold));
        assert!(!requirement("tier", Operator::In, &["gold"]).matches(&labels(&[])));
        assert!(requirement("tier", Operator::NotIn, &["gold"]).matches(&labels(&[])));
        assert!(!requirement("tier", Operator::NotIn, &["gold"]).matches(&gold));
        assert!(requirement("tier", Operator::Exists, &[]).matches(&gold));
        assert!(requirement("zone", Operator::DoesNotExist, &[]).matches(&gold));
    }

    #[test]
    fn requirements_that_cannot_hold_are_named_by_place() {
        let (place, _) = requirement("a", Operator::In, &[]).check().unwrap_err();
        assert_eq!(place, "matchExpressions[0].values");
        assert!(requirement("a", Operator::Exists, &["x"]).check().is_err());
        let (place, _) = requirement("a", Operator::In, &["b", "-c"]).check().unwrap_err();
        assert_eq!(place, "matchExpressions[0].values[1]");
    }

    #[test]
    fn labels_are_what_kubernetes_takes_for_labels() {
        for key in ["tier", "a_b.C", "example.com/tier", &"k".repeat(63)] {
            assert!(requirement(key, Operator::Exists, &[]).check().is_ok(), "{key}");
        }
        for key in ["", "a b", "-a", "/a", "a/", "a/b/c", "Example.com/a", "a..b/c", &"k".repeat(64)] {
            let (_, message) = requirement(key, Operator::Exists, &[]).check().unwrap_err();
            assert!(message.contains("such as tier"), "{key}: {message}");
        }
        let of = |key: &str, value: &str| Selector {
            match_labels: labels(&[(key, value)]),
            ..Selector::default()
        };
        assert!(of("tier", "").check().is_ok());
        assert_eq!(of("tier", "a b").check().unwrap_err().0, "matchLabels[tier]");
        assert_eq!(of("a b", "gold").check().unwrap_err().0, "matchLabels");
    }
}

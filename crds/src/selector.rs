//! Label selectors, with rules that refuse what could never match.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Selects objects by their labels; empty selects everything. All parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Labels that must be there with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub match_labels: Labels,
    /// Further requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
        "message": "operators In and NotIn need at least one entry in values"
    },
    {
        "rule": "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
        "message": "operators Exists and DoesNotExist take no values: remove them"
    }
]))]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// The label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// The values for In and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)), extend("x-kubernetes-list-type" = "set"))]
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
        for (index, requirement) in self.match_expressions.iter().enumerate() {
            let place = |field: &str| format!("matchExpressions[{index}].{field}");
            let wants_values = matches!(requirement.operator, Operator::In | Operator::NotIn);
            if requirement.key.is_empty() {
                return Err((place("key"), "must name a label".to_owned()));
            }
            if wants_values && requirement.values.is_empty() {
                return Err((place("values"), "In and NotIn need at least one value".to_owned()));
            }
            if !wants_values && !requirement.values.is_empty() {
                return Err((
                    place("values"),
                    "Exists and DoesNotExist take no values: remove them".to_owned(),
                ));
            }
        }
        Ok(())
    }
}

impl Requirement {
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
    }
}

//! Conditions as kstatus reads them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One aspect of an object's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: ConditionStatus,
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed, RFC 3339.
    pub last_transition_time: String,
    /// One word, for programs.
    pub reason: String,
    /// One sentence, for people: what is so and what to do about it.
    pub message: String,
}

/// The three values of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody knows.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(yes: bool) -> Self {
        if yes { Self::True } else { Self::False }
    }
}

impl Condition {
    /// A condition whose transition time is kept from `before` when its status did not change, else `now`.
    pub fn renewed(
        before: &[Self],
        now: jiff::Timestamp,
        type_: &str,
        status: ConditionStatus,
        reason: &str,
        message: impl Into<String>,
        observed_generation: Option<i64>,
    ) -> Self {
        let kept = before.iter().find(|c| c.type_ == type_ && c.status == status);
        Self {
            type_: type_.to_owned(),
            status,
            observed_generation,
            last_transition_time: kept.map_or_else(|| rfc3339(now), |c| c.last_transition_time.clone()),
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// The condition of that type.
    pub fn find<'a>(all: &'a [Self], type_: &str) -> Option<&'a Self> {
        all.iter().find(|c| c.type_ == type_)
    }

    /// True if the condition of that type is there and true.
    pub fn is_true(all: &[Self], type_: &str) -> bool {
        Self::find(all, type_).is_some_and(|c| c.status == ConditionStatus::True)
    }
}

/// Whole seconds, as Kubernetes writes times.
pub fn rfc3339(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

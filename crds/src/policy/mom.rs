//! Programs in MOM's policy language as people write them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

/// Most slots of a program; oVirt has six.
pub const SLOTS_MAX: usize = 32;
/// Most bytes of all slots of a program together, that of the parameters included: each node's object holds them.
pub const PROGRAM_MAX: usize = 32 * 1024;
/// Most parameters.
pub(crate) const PARAMETERS_MAX: usize = 64;
/// Longest name of a slot or parameter, and longest value of one.
pub(crate) const NAME_MAX: usize = 63;
/// The slot that parameters become, as VDSM calls it (oVirt/vdsm, lib/vdsm/mom.py).
pub const PARAMETERS_SLOT: &str = "01-parameters";

pub(crate) const PARAMETERS_SLOT_HELP: &str = "the parameters take one of the 32 slots: write at most 31 beside them, for instance by joining two into one";
pub(crate) const SLOT_NAME_HELP: &str =
    "write letters, digits, dots, dashes and underscores, such as 02-balloon";
pub(crate) const SLOT_SOURCE_HELP: &str =
    "give exactly one of program (its text) and configMapKeyRef: {name: …, key: …}";
/// What is told of a text that has nothing in it, wherever it stands.
pub const BLANK_HELP: &str =
    "is empty or has nothing but blanks: write the slot's text there, or leave the slot out";
pub(crate) const CONFIG_MAP_NAME_HELP: &str =
    "write the name of a ConfigMap in the operator's namespace: lower-case letters, digits, dots and dashes";
pub(crate) const KEY_HELP: &str =
    "write a key of the ConfigMap: letters, digits, dots, dashes and underscores, such as 02-balloon.policy";
pub(crate) const PARAMETER_NAME_HELP: &str = "write the name of a variable that a slot before 01-parameters defines: letters, digits, dashes and \
     underscores, with no digit or dash first";
pub(crate) const NUMBER_HELP: &str = "write a whole number (1 for true, 0 for false), or a number as programs have it in quotes, such as \"0.05\" or \"0x10\"";

/// A program in MOM's policy language (docs/mom.md). It says what it wants of each guest; what must never happen to a guest is
/// kept from it as from any engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, DeriveDeserialize, JsonSchema)]
pub struct MomSpec {
    /// The parts of the program, which run as one in the order of their names, as the files of a policy directory do.
    /// Together they may have 32 KiB.
    #[schemars(
        length(min = 1, max = SLOTS_MAX),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"],
            "x-kubernetes-validations" = [{
                "rule": format!("self.map(slot, has(slot.program) ? size(slot.program) : 0).sum() <= {PROGRAM_MAX}"),
                "message": format!("the programs have too much text: no more than {PROGRAM_MAX} characters fit, of all slots together")
            }]
        )
    )]
    pub slots: Vec<SlotSpec>,
}

/// A part of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, DeriveDeserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.program) != has(self.configMapKeyRef)",
        "message": SLOT_SOURCE_HELP
    },
    {
        "rule": "!has(self.program) || self.program.trim() != ''",
        "message": BLANK_HELP,
        "fieldPath": ".program"
    }
]))]
#[serde(rename_all = "camelCase")]
pub struct SlotSpec {
    /// Name, unique within the program: by it the slots are ordered, and errors are told as NAME:LINE:COLUMN.
    #[schemars(length(min = 1, max = NAME_MAX), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^[A-Za-z0-9._-]+$')",
        "message": SLOT_NAME_HELP
    }]))]
    pub name: String,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = PROGRAM_MAX))]
    pub program: Option<Arc<str>>,
    /// Where its text is, in the operator's namespace and nowhere else. An edit of the ConfigMap counts as one of the policy. Not
    /// where there is no Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
}

/// A key of a ConfigMap in the operator's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, DeriveDeserialize, JsonSchema)]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$')",
        "message": CONFIG_MAP_NAME_HELP
    }]))]
    pub name: String,
    /// The key of its data.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^[-._a-zA-Z0-9]+$')",
        "message": KEY_HELP
    }]))]
    pub key: String,
}

/// Values of variables by name.
pub type Parameters = BTreeMap<String, Number>;

/// A number as a program has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Number {
    /// A whole one.
    Whole(i64),
    /// As it is written in a program.
    Literal(String),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Literal(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words)
    }
}

struct Words;

impl Visitor<'_> for Words {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number (1 for true, 0 for false), or a number in quotes such as \"0.05\",")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number::Whole(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
        // Beyond 64 bits with a sign it is still a number of the language.
        Ok(i64::try_from(value).map_or_else(|_| Number::Literal(value.to_string()), Number::Whole))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Number, E> {
        Ok(Number::Literal(value.to_owned()))
    }
}

impl JsonSchema for Number {
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A whole number, or a number as programs have it in quotes, such as \"0.05\" or \"0x10\".",
            "x-kubernetes-int-or-string": true,
            "maxLength": NAME_MAX,
            "pattern": "^(-?([0-9]+|[0-9]*\\.[0-9]+)([eE][-+]?[0-9]+)?|0[xX][0-9a-fA-F]+|0o[0-7]+)$",
        })
    }
}

pub(super) fn parameters_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": PARAMETERS_MAX,
        "additionalProperties": generator.subschema_for::<Number>(),
        "x-kubernetes-validations": [{
            "rule": format!("self.all(name, size(name) <= {NAME_MAX} && name.matches('^[A-Za-z_][A-Za-z0-9_-]*$'))"),
            "message": PARAMETER_NAME_HELP,
        }],
    })
}

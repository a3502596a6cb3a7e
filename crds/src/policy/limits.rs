//! How fast memory may be taken, and what is too little to bother.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::SizeOrPercent;

pub(crate) const DEAD_BAND_HELP: &str = "no take could be as large as deadBand, so none would be made: write a smaller deadBand, or a larger takePerGuest";

/// How fast memory may be taken, and what is too little to bother.
// A dead band above the largest take refuses each take for being too little. Where one is a percentage and the other is
// not, that depends on the guest's size. Nothing to take at all, 0, is what somebody may mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!isQuantity(self.deadBand) || !isQuantity(self.takePerGuest) || !quantity(self.takePerGuest).isGreaterThan(quantity('0')) || !quantity(self.deadBand).isGreaterThan(quantity(self.takePerGuest))",
        "message": DEAD_BAND_HELP,
        "fieldPath": ".deadBand"
    },
    {
        "rule": "!self.deadBand.matches('^[0-9]{1,3}([.][0-9])?%$') || !self.takePerGuest.matches('^[0-9]{1,3}([.][0-9])?%$') || double(self.takePerGuest.replace('%', '')) == 0.0 || double(self.deadBand.replace('%', '')) <= double(self.takePerGuest.replace('%', ''))",
        "message": DEAD_BAND_HELP,
        "fieldPath": ".deadBand"
    }
]))]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsSpec {
    /// Largest take from one guest per interval; 100% is its full size.
    pub take_per_guest: SizeOrPercent,
    /// Largest take from all guests of a node per interval; 100% is the node's memory.
    pub take_per_node: SizeOrPercent,
    /// Smaller changes are not made; 100% is the guest's full size. No more than takePerGuest, or nothing could be taken.
    pub dead_band: SizeOrPercent,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            take_per_guest: SizeOrPercent("10%".to_owned()),
            take_per_node: SizeOrPercent("10%".to_owned()),
            dead_band: SizeOrPercent("1%".to_owned()),
        }
    }
}

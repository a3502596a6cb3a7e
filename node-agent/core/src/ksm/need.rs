//! Whether memory that merging saves is worth anything on this node now.

use serde::{Deserialize, Serialize};

use crate::sample::HostMemory;
use crate::units::{Bytes, Permille};

/// Free memory below which a node is short: ksmtuned's `KSM_THRES_COEF`, 20 % of what is not reserved as huge pages.
const THRESHOLD: Permille = Permille::new(200);
/// So much more must be there before it is no longer.
const MARGIN: Permille = Permille::new(50);

/// How much the node needs what merging saves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Need {
    /// Everybody may touch all that was promised, and a fifth of the memory would still be free.
    #[default]
    Plenty,
    /// Less would be free then.
    Wanted,
    /// Less is free now.
    Pressed,
}

impl Need {
    /// What it is now.
    pub(super) fn next(self, memory: &HostMemory, promised: Bytes) -> Self {
        let total = memory.total.minus(memory.hugetlb);
        let margin = |at: Self| if self >= at { MARGIN } else { Permille::new(0) };
        let below = |left: Bytes, at: Self| left < total.share(THRESHOLD).plus(total.share(margin(at)));
        if below(memory.available, Self::Pressed) {
            Self::Pressed
        } else if below(total.minus(promised), Self::Wanted) {
            Self::Wanted
        } else {
            Self::Plenty
        }
    }
}

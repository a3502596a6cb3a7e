//! What the API server sends, as it is understood and kept on disk.
//!
//! Names nothing of this crate but [`crate::orders`] and [`crate::envelope`]: `tests/fuzz` takes all three files in.

use overcommit_crds::node::NodeOvercommitSpec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope;
use crate::orders::{Orders, Origin, Standing, Version};

/// A NodeOvercommit as it was received, and as it is kept on disk: all that orders are made of, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Received {
    /// The node that it is for: a state directory may come from another machine's disk.
    pub(crate) node: String,
    /// Which version of the object.
    pub(crate) version: Version,
    /// Also on disk: an agent that is started while the API server is away must not take what was forbidden before.
    pub(crate) standing: Standing,
    /// As it came: one that is newer than the agent may still ask for release.
    pub(crate) spec: Value,
}

impl Received {
    /// What stands in the file of the orders.
    ///
    /// # Errors
    /// Why it is not that of `node`.
    pub(crate) fn from_disk(node: &str, content: &[u8]) -> Result<Self, String> {
        let kept: Self = envelope::open(content)?;
        if kept.node == node { Ok(kept) } else { Err(format!("they are those of the node {:?}", kept.node)) }
    }

    /// The orders in it; `before` are those in force.
    ///
    /// # Errors
    /// Why it holds none.
    pub(crate) fn orders(&self, origin: Origin, before: Option<&Orders>) -> Result<Orders, String> {
        let about = (self.version.clone(), self.standing, origin);
        let spec = NodeOvercommitSpec::deserialize(&self.spec).map_err(|e| e.to_string());
        let orders = spec.and_then(|spec| {
            let (version, standing, origin) = about.clone();
            Orders::from_node(&spec, version, standing, origin).map_err(|errors| format!("{errors:?}"))
        });
        orders.or_else(|why| Orders::without_policy(&self.spec, why.clone(), before, about).ok_or(why))
    }
}

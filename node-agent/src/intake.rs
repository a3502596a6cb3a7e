//! One watch on our NodeOvercommit → orders, kept on disk for when the API server is away.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use overcommit_crds::node::{NodeOvercommit, NodeOvercommitSpec};
use serde::{Deserialize, Serialize};

use crate::orders::{Orders, Origin, Version};
use crate::state_dir::StateDir;
use crate::tick::Wake;

const CACHE: &str = "orders.json";

/// A NodeOvercommit as it was received, and as it is kept on disk: all that orders are made of, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Received {
    /// The node that it is for: a state directory may come from another machine's disk.
    node: String,
    version: Version,
    spec: NodeOvercommitSpec,
}

impl Received {
    fn from_object(node: &str, object: NodeOvercommit) -> Self {
        let uid = object.metadata.uid.unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        Self { node: node.to_owned(), version: Version { uid, generation }, spec: object.spec }
    }

    fn from_disk(node: &str, content: &[u8]) -> Result<Self, String> {
        let kept: Self = serde_json::from_slice(content).map_err(|e| e.to_string())?;
        if kept.node == node { Ok(kept) } else { Err(format!("they are those of the node {:?}", kept.node)) }
    }

    fn orders(&self, origin: Origin) -> Result<Orders, String> {
        let orders = Orders::from_node(&self.spec, self.version.clone(), origin);
        orders.map_err(|errors| format!("{errors:?}"))
    }
}

/// The last orders on disk; absent if there are none. What cannot be understood is set aside.
pub(crate) fn cached(node: &str, dir: &StateDir) -> Option<Arc<Orders>> {
    let read = dir.read(CACHE).map_err(|e| e.to_string()).transpose()?;
    let parsed = read.and_then(|content| Received::from_disk(node, &content)?.orders(Origin::Cache));
    match parsed {
        Ok(orders) => Some(Arc::new(orders)),
        Err(why) => {
            let aside = dir.set_aside(CACHE);
            tracing::error!(why, aside = %aside.display(), "the cached orders cannot be used; waiting for the API server");
            None
        }
    }
}

/// Follows the node's object until the loop is gone.
pub(crate) async fn follow(client: Client, node: String, dir: Arc<StateDir>, wakes: Sender<Wake>) {
    let api: Api<NodeOvercommit> = Api::all(client);
    let mut stream = pin!(watch_object(api, &node).default_backoff());
    let mut last: Option<Received> = None;
    while let Some(event) = stream.next().await {
        match event.map(|object| object.map(|o| Received::from_object(&node, o))) {
            Ok(Some(received)) if last.as_ref() == Some(&received) => {}
            Ok(Some(received)) => {
                if !pass_on(&received, &dir, &wakes) {
                    return;
                }
                last = Some(received);
            }
            // A deleted object is no intent to release: the last orders hold.
            Ok(None) => {
                tracing::info!(
                    node,
                    "no NodeOvercommit of this name; the last orders hold, if there are any"
                );
            }
            Err(error) => {
                tracing::warn!(%error, "the API server does not answer; the loop goes on with its last orders");
            }
        }
    }
}

fn pass_on(received: &Received, dir: &StateDir, wakes: &Sender<Wake>) -> bool {
    match received.orders(Origin::Api) {
        Ok(orders) => {
            let text = serde_json::to_vec(received).unwrap_or_default();
            if let Err(error) = dir.replace(CACHE, &text) {
                tracing::error!(%error, "the orders cannot be kept on disk");
            }
            wakes.send(Wake::Orders(Arc::new(orders))).is_ok()
        }
        Err(why) => {
            tracing::error!(why, "orders that cannot work are refused; the last good ones hold");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use overcommit_crds::OvercommitPolicySpec;
    use overcommit_crds::resolve::resolve;

    use super::*;

    fn received(generation: i64) -> Received {
        let spec = serde_json::json!({
            "policy": "p", "revision": "r", "resolved": resolve(&OvercommitPolicySpec::default()),
        });
        let version = Version { uid: "u-1".to_owned(), generation };
        Received { node: "here".to_owned(), version, spec: serde_json::from_value(spec).unwrap() }
    }

    fn kept(content: &[u8]) -> (tempfile::TempDir, StateDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temp.path()).unwrap();
        dir.replace(CACHE, content).unwrap();
        (temp, dir)
    }

    fn aside(dir: &Path) -> bool {
        dir.join("orders.json.corrupt").exists()
    }

    #[test]
    fn cached_orders_are_of_the_version_that_was_received() {
        let (temp, dir) = kept(&serde_json::to_vec(&received(7)).unwrap());
        let orders = cached("here", &dir).unwrap();
        assert_eq!(orders.version, Some(Version { uid: "u-1".to_owned(), generation: 7 }));
        assert_eq!(orders.origin, Origin::Cache);
        assert!(!aside(temp.path()));
    }

    #[test]
    fn what_is_no_orders_or_says_not_which_is_refused_with_the_reason_and_kept() {
        let whole = serde_json::to_string(&received(7)).unwrap();
        let bare = serde_json::to_string(&received(7).spec).unwrap();
        let further = whole.replacen('{', "{\"more\": 1, ", 1);
        let broken = whole.replace("\"interval\"", "\"intervall\"");
        for (content, why) in [
            ("", "EOF"),
            (&whole[..whole.len() - 9], "EOF"),
            ("\u{0}\u{1}", "expected value"),
            (&bare, "unknown field"),
            (&further, "unknown field `more`"),
            (&whole.replace("\"generation\":7", "\"generation\":null"), "expected i64"),
            (&whole.replace("\"node\":\"here\"", "\"node\":\"there\""), "the node \"there\""),
            (&broken, "interval"),
        ] {
            let error = Received::from_disk("here", content.as_bytes()).map(|r| r.node).unwrap_err();
            assert!(error.contains(why), "{why:?} is not in {error:?}");
            let (temp, dir) = kept(content.as_bytes());
            assert!(cached("here", &dir).is_none(), "{content}");
            assert!(aside(temp.path()), "{content}");
        }
    }

    #[test]
    fn an_object_made_anew_with_the_same_spec_is_another_one() {
        let mut anew = received(7);
        anew.version.uid = "u-2".to_owned();
        assert_ne!(received(7), anew);
        assert_ne!(received(7), received(8));
    }
}

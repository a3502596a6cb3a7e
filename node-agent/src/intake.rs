//! One watch on our NodeOvercommit → orders, kept on disk for when the API server is away.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use futures::StreamExt as _;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use overcommit_crds::node::NodeOvercommit;

use crate::orders::{Orders, Origin, Standing, Version};
use crate::state_dir::StateDir;
use crate::tick::Wake;

mod received;

use received::Received;

const CACHE: &str = "orders.json";

impl Received {
    fn from_object(node: &str, object: DynamicObject) -> Self {
        let uid = object.metadata.uid.unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        let deleted = object.metadata.deletion_timestamp.is_some();
        let standing = if deleted { Standing::Deleted } else { Standing::Stands };
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        Self { node: node.to_owned(), version: Version { uid, generation }, standing, spec }
    }
}

/// What was received last, and the orders in it.
#[derive(Debug)]
pub(crate) struct Last {
    received: Received,
    orders: Arc<Orders>,
}

impl Last {
    /// The orders.
    pub(crate) fn orders(&self) -> Arc<Orders> {
        Arc::clone(&self.orders)
    }
}

/// The last orders on disk; absent if there are none. What cannot be understood is set aside.
pub(crate) fn cached(node: &str, dir: &StateDir) -> Option<Last> {
    let read = dir.read(CACHE).map_err(|e| e.to_string()).transpose()?;
    let parsed = read.and_then(|content| {
        let received = Received::from_disk(node, &content)?;
        let orders = Arc::new(received.orders(Origin::Cache, None)?);
        Ok(Last { received, orders })
    });
    match parsed {
        Ok(last) => Some(last),
        Err(why) => {
            let aside = dir.set_aside(CACHE);
            tracing::error!(why, aside = %aside.display(), "the cached orders cannot be used; waiting for the API server");
            None
        }
    }
}

/// Follows the node's object until the loop is gone; `last` are the orders that it has from disk.
pub(crate) async fn follow(
    client: Client,
    node: String,
    dir: Arc<StateDir>,
    wakes: Sender<Wake>,
    last: Option<Last>,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::erase::<NodeOvercommit>(&()));
    let mut stream = pin!(watch_object(api, &node).default_backoff());
    // What is on disk was not heard from this API server yet, even if it says the same.
    let mut heard = false;
    let (mut known, mut in_force) = last.map(|last| (last.received, last.orders)).unzip();
    while let Some(event) = stream.next().await {
        let said = match event {
            Ok(Some(object)) => Received::from_object(&node, object),
            // No intent to release, but nobody stands behind the last orders any more.
            Ok(None) => {
                let Some(last) = known.clone() else {
                    tracing::info!(node, "no NodeOvercommit of this name, and no orders from before");
                    continue;
                };
                Received { standing: Standing::Gone, ..last }
            }
            Err(error) => {
                tracing::warn!(%error, "the API server does not answer; the loop goes on with its last orders");
                continue;
            }
        };
        if heard && known.as_ref() == Some(&said) {
            continue;
        }
        let orders = understood(&said, &dir, in_force.as_deref());
        (heard, known) = (true, Some(said));
        let Some(orders) = orders.map(Arc::new) else { continue };
        in_force = Some(Arc::clone(&orders));
        if wakes.send(Wake::Orders(orders)).is_err() {
            return;
        }
    }
}

/// The orders in what was received, kept on disk; if there are none in it, those in force, which say so.
fn understood(received: &Received, dir: &StateDir, in_force: Option<&Orders>) -> Option<Orders> {
    let orders = match received.orders(Origin::Api, in_force) {
        Ok(orders) => {
            let text = serde_json::to_vec(received).unwrap_or_default();
            if let Err(error) = dir.replace(CACHE, &text) {
                tracing::error!(%error, "the orders cannot be kept on disk");
            }
            orders
        }
        Err(why) => {
            tracing::error!(why, "orders that cannot work are refused; the last good ones hold");
            let mut orders = in_force?.clone();
            orders.fault = Some(why);
            orders
        }
    };
    if let Some(trouble) = orders.trouble() {
        tracing::warn!(node = received.node, "{trouble}");
    }
    Some(orders)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use overcommit_crds::OvercommitPolicySpec;
    use overcommit_crds::resolve::resolve;
    use serde_json::Value;

    use super::*;

    fn received(generation: i64) -> Received {
        let spec = serde_json::json!({
            "policy": "p", "revision": "r", "resolved": resolve(&OvercommitPolicySpec::default()),
        });
        let version = Version { uid: "u-1".to_owned(), generation };
        Received { node: "here".to_owned(), version, standing: Standing::Stands, spec }
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
        let orders = cached("here", &dir).unwrap().orders();
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
            let read = Received::from_disk("here", content.as_bytes());
            let error = read.and_then(|r| r.orders(Origin::Cache, None)).map(|o| o.policy_name).unwrap_err();
            assert!(error.contains(why), "{why:?} is not in {error:?}");
            let (temp, dir) = kept(content.as_bytes());
            assert!(cached("here", &dir).is_none(), "{content}");
            assert!(aside(temp.path()), "{content}");
        }
    }

    #[test]
    fn withdrawn_orders_take_nothing_and_say_so_from_disk_too() {
        for standing in [Standing::Deleted, Standing::Gone] {
            let withdrawn = Received { standing, ..received(7) };
            let (_temp, dir) = kept(&serde_json::to_vec(&withdrawn).unwrap());
            let orders = cached("here", &dir).unwrap().orders();
            assert!(orders.paused && !orders.release && orders.trouble().is_some(), "{standing:?}");
            let mut asked = withdrawn;
            asked.spec["release"] = Value::Bool(true);
            let orders = asked.orders(Origin::Api, None).unwrap();
            assert!(orders.release && orders.trouble().is_none(), "{standing:?}");
        }
    }

    #[test]
    fn release_and_pause_are_obeyed_even_where_the_policy_cannot_work() {
        let good = received(6).orders(Origin::Api, None).unwrap();
        for broken in [serde_json::json!({ "mode": "Turbo" }), Value::Null] {
            let mut newer = received(7);
            newer.spec["resolved"] = broken;
            newer.spec["guests"] = serde_json::json!([{ "namespace": "n", "name": "g", "uid": "u" }]);
            assert!(newer.orders(Origin::Api, Some(&good)).is_err(), "says neither");
            for field in ["release", "paused"] {
                let mut asked = newer.clone();
                asked.spec[field] = Value::Bool(true);
                for before in [Some(&good), None] {
                    let orders = asked.orders(Origin::Api, before).unwrap();
                    assert_eq!((orders.release, orders.paused), (field == "release", true));
                    assert_eq!(orders.version.as_ref().map(|v| v.generation), Some(7));
                    assert!(orders.trouble().unwrap().contains("cannot work"));
                    // From disk after a restart as well.
                    let (_temp, dir) = kept(&serde_json::to_vec(&asked).unwrap());
                    assert_eq!(cached("here", &dir).unwrap().orders().release, field == "release");
                }
            }
        }
    }

    #[test]
    fn orders_that_are_refused_leave_the_last_good_ones_which_say_so() {
        let (_temp, dir) = kept(b"{}");
        let good = received(6).orders(Origin::Api, None).unwrap();
        let mut newer = received(7);
        newer.spec["resolved"] = Value::Null;
        let orders = understood(&newer, &dir, Some(&good)).unwrap();
        assert_eq!(orders.version.as_ref().map(|v| v.generation), Some(6));
        assert!(orders.trouble().is_some() && !orders.paused);
        assert!(understood(&newer, &dir, None).is_none());
        assert_eq!(dir.read(CACHE).unwrap().unwrap(), b"{}", "the last good ones are kept");
    }

    #[test]
    fn an_object_made_anew_with_the_same_spec_is_another_one() {
        let mut anew = received(7);
        anew.version.uid = "u-2".to_owned();
        assert_ne!(received(7), anew);
        assert_ne!(received(7), received(8));
    }
}

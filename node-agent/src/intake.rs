//! One watch on our NodeOvercommit → orders, kept on disk for when the API server is away.

use std::pin::pin;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use futures::future::ready;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client};
use overcommit_crds::node::NodeOvercommit;

use crate::contact::{Answer, Ask, Contact, Fault};
use crate::envelope;
use crate::orders::{Orders, Origin, Standing, Version};
use crate::scribe::Scribe;
use crate::state_dir::StateDir;
use crate::tick::Wake;

mod received;

use received::Received;

/// Its name in the state directory.
pub(crate) const FILE: &str = "orders.json";

/// A watch call ends after this, and is noticed to be dead 5 s later (kube-runtime, `Config::timeout`). Thousands of agents
/// watch: each end is a call more.
pub(crate) const CALL_SECONDS: u32 = 120;

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

/// What was heard so far.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What is on disk was not heard from this API server yet, even if it says the same.
    heard: bool,
    received: Option<Received>,
    orders: Option<Arc<Orders>>,
}

/// What follows from something that was heard.
#[derive(Debug)]
struct Fresh {
    orders: Arc<Orders>,
    /// Sealed, for the disk; absent if those from before are to stay there.
    kept: Option<Vec<u8>>,
}

impl Memory {
    /// The orders.
    pub(crate) fn orders(&self) -> Option<Arc<Orders>> {
        self.orders.clone()
    }

    /// Takes in what the API server has for this node; what follows is absent if it is as before.
    fn hear(&mut self, node: &str, object: Option<DynamicObject>) -> (Answer, Option<Fresh>) {
        let said = match (object, &self.received) {
            (Some(object), _) => Received::from_object(node, object),
            // No intent to release, but nobody stands behind the last orders any more.
            (None, Some(last)) => Received { standing: Standing::Gone, ..last.clone() },
            (None, None) => {
                tracing::info!(node, "no NodeOvercommit of this name, and no orders from before");
                return (Answer::None, None);
            }
        };
        if self.heard && self.received.as_ref() == Some(&said) && self.orders.is_some() {
            return (Answer::Orders, None);
        }
        let understood = understood(&said, self.orders.as_deref());
        (self.heard, self.received) = (true, Some(said));
        match understood {
            Ok(fresh) => {
                self.orders = Some(Arc::clone(&fresh.orders));
                (Answer::Orders, Some(fresh))
            }
            Err(why) => (Answer::Unusable(why), None),
        }
    }
}

/// The last orders on disk; absent if there are none. What cannot be understood is set aside.
pub(crate) fn cached(node: &str, dir: &StateDir) -> Option<Memory> {
    let read = dir.read(FILE).map_err(|e| e.to_string()).transpose()?;
    let parsed = read.and_then(|content| {
        let received = Received::from_disk(node, &content)?;
        let orders = Arc::new(received.orders(Origin::Cache, None)?);
        Ok(Memory { heard: false, received: Some(received), orders: Some(orders) })
    });
    match parsed {
        Ok(memory) => Some(memory),
        Err(why) => {
            let aside = dir.set_aside(FILE);
            tracing::error!(why, aside, "the cached orders cannot be used; waiting for the API server");
            None
        }
    }
}

/// Follows the node's object until the loop is gone. What it heard is in `memory`, so that a successor goes on from there.
pub(crate) async fn follow(
    client: Client,
    node: String,
    memory: Arc<Mutex<Memory>>,
    wakes: Sender<Wake>,
    scribe: Scribe,
    contact: Arc<Contact>,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::erase::<NodeOvercommit>(&()));
    let config = Config::default().fields(&format!("metadata.name={node}")).timeout(CALL_SECONDS);
    // That a list is about to be asked for is no answer: it must not end the pauses between failures.
    let events = watcher(api, config).filter(|event| ready(!matches!(event, Ok(Event::Init))));
    let mut events = pin!(events.default_backoff());
    let mut listed = false;
    while let Some(event) = events.next().await {
        let object = match event {
            Ok(Event::Apply(object)) => Some(object),
            Ok(Event::InitApply(object)) => {
                listed = true;
                Some(object)
            }
            Ok(Event::InitDone) if std::mem::take(&mut listed) => continue,
            Ok(Event::InitDone | Event::Delete(_)) => None,
            Ok(Event::Init) => continue,
            Err(error) => {
                listed = false;
                failed(&contact, &error);
                continue;
            }
        };
        let (answer, fresh) = memory.lock().unwrap_or_else(PoisonError::into_inner).hear(&node, object);
        contact.answered(answer);
        let Some(fresh) = fresh else { continue };
        // First of all: the disk may hang.
        if wakes.send(Wake::Orders(fresh.orders)).is_err() {
            return;
        }
        if let Some(kept) = fresh.kept {
            scribe.keep_orders(kept);
        }
    }
}

fn failed(contact: &Contact, error: &watcher::Error) {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    let fault = match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => Fault::of(error),
        WatchError(status) if status.code == 410 => {
            tracing::info!(%error, "the watch lost its place and lists again");
            return;
        }
        WatchError(status) => Fault::of_status(status.code, &status.message),
        NoResourceVersion => Fault::Refuses(error.to_string()),
    };
    contact.failed(Ask::Orders, fault, error);
}

/// The orders in what was received; if there are none in it, those in force, which say so.
///
/// # Errors
/// Why there are none to obey.
fn understood(received: &Received, in_force: Option<&Orders>) -> Result<Fresh, String> {
    let (orders, kept) = match received.orders(Origin::Api, in_force) {
        Ok(orders) => (orders, Some(envelope::seal(received))),
        Err(why) => {
            tracing::error!(why, "orders that cannot work are refused; the last good ones hold");
            let Some(mut orders) = in_force.cloned() else { return Err(why) };
            orders.fault = Some(why);
            (orders, None)
        }
    };
    if let Some(trouble) = orders.trouble() {
        tracing::warn!(node = received.node, "{trouble}");
    }
    Ok(Fresh { orders: Arc::new(orders), kept })
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
        dir.replace(FILE, content).unwrap();
        (temp, dir)
    }

    fn aside(dir: &Path) -> bool {
        dir.join("orders.json.corrupt").exists()
    }

    #[test]
    fn cached_orders_are_of_the_version_that_was_received() {
        let (temp, dir) = kept(&envelope::seal(&received(7)));
        let orders = cached("here", &dir).unwrap().orders().unwrap();
        assert_eq!(orders.version, Some(Version { uid: "u-1".to_owned(), generation: 7 }));
        assert_eq!(orders.origin, Origin::Cache);
        assert!(!aside(temp.path()));
    }

    #[test]
    fn what_is_no_orders_or_says_not_which_is_refused_with_the_reason_and_kept() {
        let whole = envelope::seal(&received(7));
        let edited = |path: &str, to: Value| {
            let mut value = serde_json::to_value(received(7)).unwrap();
            *value.pointer_mut(path).unwrap() = to;
            envelope::seal(&value)
        };
        let mut further = serde_json::to_value(received(7)).unwrap();
        further["more"] = Value::Bool(true);
        let flipped: Vec<u8> = whole.iter().map(|b| if *b == b'7' { b'8' } else { *b }).collect();
        let bare = serde_json::to_vec(&received(7)).unwrap();
        for (content, why) in [
            (Vec::new(), "cut short"),
            (whole[..whole.len() - 9].to_vec(), "checksum"),
            (flipped, "checksum"),
            (vec![0, 1], "cut short"),
            (bare, "cut short"),
            (envelope::seal(&received(7).spec), "unknown field"),
            (envelope::seal(&further), "unknown field `more`"),
            (edited("/version/generation", Value::Null), "expected i64"),
            (edited("/node", "there".into()), "the node \"there\""),
            (edited("/spec/resolved/interval", "9h".into()), "interval"),
        ] {
            let read = Received::from_disk("here", &content);
            let error = read.and_then(|r| r.orders(Origin::Cache, None)).map(|o| o.policy_name).unwrap_err();
            assert!(error.contains(why), "{why:?} is not in {error:?}");
            let (temp, dir) = kept(&content);
            assert!(cached("here", &dir).is_none(), "{why}");
            assert!(aside(temp.path()), "{why}");
        }
    }

    #[test]
    fn withdrawn_orders_take_nothing_and_say_so_from_disk_too() {
        for standing in [Standing::Deleted, Standing::Gone] {
            let withdrawn = Received { standing, ..received(7) };
            let (_temp, dir) = kept(&envelope::seal(&withdrawn));
            let orders = cached("here", &dir).unwrap().orders().unwrap();
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
                    let (_temp, dir) = kept(&envelope::seal(&asked));
                    assert_eq!(cached("here", &dir).unwrap().orders().unwrap().release, field == "release");
                }
            }
        }
    }

    #[test]
    fn orders_that_are_refused_leave_the_last_good_ones_which_say_so() {
        let good = received(6).orders(Origin::Api, None).unwrap();
        let mut newer = received(7);
        newer.spec["resolved"] = Value::Null;
        let Fresh { orders, kept } = understood(&newer, Some(&good)).unwrap();
        assert_eq!(orders.version.as_ref().map(|v| v.generation), Some(6));
        assert!(orders.trouble().is_some() && !orders.paused);
        assert!(understood(&newer, None).is_err());
        assert!(kept.is_none(), "the last good ones stay on disk");
    }

    #[test]
    fn an_object_made_anew_with_the_same_spec_is_another_one() {
        let mut anew = received(7);
        anew.version.uid = "u-2".to_owned();
        assert_ne!(received(7), anew);
        assert_ne!(received(7), received(8));
    }
}

//! One watch on our NodeOvercommit → orders, kept on disk for when the API server is away.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use overcommit_crds::node::{NodeOvercommit, NodeOvercommitSpec};

use crate::orders::{Orders, Origin};
use crate::state_dir::StateDir;
use crate::tick::Wake;

const CACHE: &str = "orders.json";

/// The last orders on disk; absent if there are none. What cannot be understood is set aside.
pub(crate) fn cached(dir: &StateDir) -> Option<Arc<Orders>> {
    let read = dir.read(CACHE).map_err(|e| e.to_string()).transpose()?;
    let parsed = read.and_then(|content| {
        let spec: NodeOvercommitSpec = serde_json::from_slice(&content).map_err(|e| e.to_string())?;
        Orders::from_node(&spec, Origin::Cache).map_err(|errors| format!("{errors:?}"))
    });
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
    let mut last: Option<NodeOvercommitSpec> = None;
    while let Some(event) = stream.next().await {
        match event {
            Ok(Some(object)) if last.as_ref() == Some(&object.spec) => {}
            Ok(Some(object)) => {
                if !pass_on(&object.spec, &dir, &wakes) {
                    return;
                }
                last = Some(object.spec);
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

fn pass_on(spec: &NodeOvercommitSpec, dir: &StateDir, wakes: &Sender<Wake>) -> bool {
    match Orders::from_node(spec, Origin::Api) {
        Ok(orders) => {
            let text = serde_json::to_vec(spec).unwrap_or_default();
            if let Err(error) = dir.replace(CACHE, &text) {
                tracing::error!(%error, "the orders cannot be kept on disk");
            }
            wakes.send(Wake::Orders(Arc::new(orders))).is_ok()
        }
        Err(errors) => {
            tracing::error!(?errors, "orders that cannot work are refused; the last good ones hold");
            true
        }
    }
}

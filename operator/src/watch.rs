//! The watches: what the API server tells becomes changes of the index. A watch that breaks is taken up again with
//! growing pauses and, where its place is lost (410), by a new list; the index never sees half a list.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::ready;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, Resource};
use overcommit_crds::names::KUBEVIRT_LAUNCHER_LABEL;
use overcommit_crds::{NodeOvercommit, OvercommitPolicy};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch::Receiver;
use tokio::task::AbortHandle;

use crate::index::{Change, Delta, Source, Trouble, Watch};
use crate::keys::Keys;
use crate::maps::{Texts, Wanted};
use crate::metrics::Metrics;
use crate::object::{Launcher, Meta, Object, Policy};
use crate::words::words;

/// A watch call ends after this; a connection that died silently is noticed 5 s later (kube-runtime, `Config::timeout`).
const CALL_SECONDS: u32 = 60;

/// Resource of our policies.
pub(crate) fn policies() -> ApiResource {
    ApiResource::erase::<OvercommitPolicy>(&())
}

/// Resource of the nodes' objects.
pub(crate) fn objects() -> ApiResource {
    ApiResource::erase::<NodeOvercommit>(&())
}

/// Starts all watches; they end with the receiver of `changes`.
pub(crate) fn start(
    client: &Client,
    changes: &Sender<Change>,
    metrics: &Metrics,
    keys: &Receiver<Arc<Keys>>,
) {
    let core = |kind: &str, plural: &str| {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", kind), plural)
    };
    let vmi = GroupVersionKind::gvk("kubevirt.io", "v1", "VirtualMachineInstance");
    let vmis = ApiResource::from_gvk_with_plural(&vmi, "virtualmachineinstances");
    let own = |resource: &ApiResource| Api::<DynamicObject>::all_with(client.clone(), resource);
    let meta =
        |resource: &ApiResource| Api::<PartialObjectMeta<DynamicObject>>::all_with(client.clone(), resource);
    let feed = |watch| Feed {
        source: Source::Kind(watch),
        config: config(watch),
        changes: changes.clone(),
        metrics: metrics.clone(),
        keys: None,
    };
    let labelled = |watch| Feed { keys: Some(keys.clone()), ..feed(watch) };
    let kept = || {
        let keys = keys.clone();
        move |object| {
            let mut meta = Meta::from(object);
            keys.borrow().keep(&mut meta.labels);
            meta
        }
    };
    let pods = meta(&core("Pod", "pods"));

    tokio::spawn(feed(Watch::Policies).run(
        own(&policies()),
        Policy::from,
        |p| p.name.clone(),
        Change::Policies,
    ));
    tokio::spawn(feed(Watch::Objects).run(
        own(&objects()),
        Object::from,
        |o| o.name.clone(),
        Change::Objects,
    ));
    let nodes = meta(&core("Node", "nodes"));
    tokio::spawn(labelled(Watch::Nodes).run(nodes, kept(), Meta::key, Change::Nodes));
    let namespaces = meta(&core("Namespace", "namespaces"));
    tokio::spawn(labelled(Watch::Namespaces).run(namespaces, kept(), Meta::key, Change::Namespaces));
    tokio::spawn(labelled(Watch::Guests).run(meta(&vmis), kept(), Meta::key, Change::Guests));
    tokio::spawn(feed(Watch::Launchers).run(pods, Launcher::from, Launcher::key, Change::Launchers));
}

/// Objects that tenants write come in pages of so many: one may have 1.5 MiB of metadata (etcd's limit of a request), and a
/// page is in memory whole before what is not needed of it is let go.
const TENANTS_PAGE: u32 = 50;
/// The same of our own kinds. A node's object may have 64 KiB, half of it a program (`build::SPEC_MAX` and `PROGRAM_MAX`), and 4 KiB of
/// status; a policy the same program twice, for `kubectl apply` keeps what was applied in an annotation. So a page is 7 MB; kube's
/// 500 (kube-runtime, `Config::page_size`) would make it 34 MB. 5,000 nodes are 50 calls, once for each list.
const OWN_PAGE: u32 = 100;

/// What is asked for. Ended pods stay for as long as their guest does, one for each migration: only the API server can
/// tell them from running ones without sending their status.
fn config(watch: Watch) -> watcher::Config {
    let config = watcher::Config::default().timeout(CALL_SECONDS);
    match watch {
        Watch::Launchers => {
            let (label, value) = KUBEVIRT_LAUNCHER_LABEL;
            let running = "status.phase!=Succeeded,status.phase!=Failed";
            config.labels(&format!("{label}={value}")).fields(running).page_size(TENANTS_PAGE)
        }
        Watch::Guests => config.page_size(TENANTS_PAGE),
        Watch::Policies | Watch::Objects => config.page_size(OWN_PAGE),
        Watch::Nodes | Watch::Namespaces | Watch::ConfigMaps => config,
    }
}

/// Watches of the ConfigMaps that policies name, each by its name alone: what else lies in the namespace is never sent.
pub(crate) struct Readers {
    client: Client,
    namespace: String,
    changes: Sender<Change>,
    metrics: Metrics,
    running: BTreeMap<String, Reader>,
}

/// The watch of one ConfigMap.
struct Reader {
    /// What of it is kept.
    keys: BTreeSet<String>,
    watch: AbortHandle,
}

impl Readers {
    /// None yet.
    pub(crate) fn of(client: Client, namespace: String, changes: Sender<Change>, metrics: Metrics) -> Self {
        Self { client, namespace, changes, metrics, running: BTreeMap::new() }
    }

    /// Watches these and no others. Where other keys are named than before the ConfigMap is listed again: what nobody named was
    /// not kept, and a watch tells it only once it changes.
    pub(crate) fn follow(&mut self, wanted: &Wanted) {
        self.running.retain(|name, reader| {
            let same = wanted.get(name) == Some(&reader.keys);
            if !same {
                reader.watch.abort();
            }
            same
        });
        for (name, keys) in wanted {
            if !self.running.contains_key(name) {
                let watch = self.start(name.clone(), keys.clone());
                self.running.insert(name.clone(), Reader { keys: keys.clone(), watch });
            }
        }
    }

    fn start(&self, name: String, keys: BTreeSet<String>) -> AbortHandle {
        let source = Source::ConfigMap(name.clone());
        let config = config(source.watch()).fields(&format!("metadata.name={name}"));
        let (changes, metrics) = (self.changes.clone(), self.metrics.clone());
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let told = move |delta| {
            let texts = match delta {
                Delta::Replace(all) => all.into_iter().next(),
                Delta::Apply(texts) => Some(texts),
                Delta::Delete(_) => None,
            };
            Change::Texts(name.clone(), texts)
        };
        let feed = Feed { source, config, changes, metrics, keys: None };
        let kept = move |map: ConfigMap| Texts::of(&map, &keys);
        tokio::spawn(feed.run(api, kept, |_| String::new(), told)).abort_handle()
    }
}

struct Feed {
    source: Source,
    /// What is asked for.
    config: watcher::Config,
    changes: Sender<Change>,
    metrics: Metrics,
    /// Which labels are kept, where any are; what is watched is listed anew when there are more.
    keys: Option<Receiver<Arc<Keys>>>,
}

impl Feed {
    /// Runs until nobody takes the changes any more.
    async fn run<K, T>(
        mut self,
        api: Api<K>,
        prune: impl Fn(K) -> T + Send,
        key: impl Fn(&T) -> String + Send,
        change: impl Fn(Delta<T>) -> Change + Send,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        T: Send,
    {
        let config = self.config.clone();
        // That a list is about to be asked for is no answer: it must not end the pauses between failures.
        let answers = |event: &watcher::Result<Event<K>>| ready(!matches!(event, Ok(Event::Init)));
        let stream = || watch(api.clone(), config.clone()).filter(answers).default_backoff().boxed();
        // Before the policies are known nobody knows what to keep.
        let mut events = if self.keys.is_some() { futures::stream::pending().boxed() } else { stream() };
        let mut listing = Vec::new();
        let mut last = None;
        loop {
            let event = tokio::select! {
                epoch = more_keys(&mut self.keys) => {
                    if self.changes.send(Change::Keys(self.source.watch(), epoch)).await.is_err() {
                        return;
                    }
                    events = stream();
                    listing.clear();
                    continue;
                }
                event = events.next() => event,
            };
            let Some(event) = event else { return };
            let told = match event {
                Ok(Event::Init) => continue,
                Ok(Event::InitApply(object)) => {
                    listing.push(prune(object));
                    continue;
                }
                Ok(Event::InitDone) => change(Delta::Replace(std::mem::take(&mut listing))),
                Ok(Event::Apply(object)) => change(Delta::Apply(prune(object))),
                Ok(Event::Delete(object)) => change(Delta::Delete(key(&prune(object)))),
                Err(error) => {
                    // What was listed of it comes again.
                    listing.clear();
                    match self.failed(&error, &mut last) {
                        Some(trouble) => Change::Trouble(self.source.clone(), trouble, Timestamp::now()),
                        None => continue,
                    }
                }
            };
            if !matches!(told, Change::Trouble(..)) && last.take().is_some() {
                tracing::info!(
                    resource = self.source.watch().resource(),
                    name = self.name(),
                    "the watch is back"
                );
            }
            if self.changes.send(told).await.is_err() {
                return;
            }
        }
    }

    /// The one object that is watched, if it is one.
    fn name(&self) -> Option<&str> {
        match &self.source {
            Source::Kind(_) => None,
            Source::ConfigMap(name) => Some(name),
        }
    }

    /// What an error means; nothing where the watch goes on by itself at once.
    fn failed(&self, error: &watcher::Error, last: &mut Option<Trouble>) -> Option<Trouble> {
        let code = code(error);
        let (reason, trouble) = match code {
            Some(404) => ("absent", Trouble::Absent),
            Some(403) => ("forbidden", Trouble::Forbidden),
            Some(410) => ("gone", Trouble::Failing("410".to_owned())),
            Some(429) => ("throttled", Trouble::Failing("429".to_owned())),
            Some(401) => ("unauthorized", Trouble::Failing("401".to_owned())),
            Some(_) => ("refused", Trouble::Failing("refused".to_owned())),
            None => ("connection", Trouble::Failing("connection".to_owned())),
        };
        let (watch, name) = (self.source.watch(), self.name());
        let resource = watch.resource();
        self.metrics.watch_failed(watch, reason);
        if code == Some(410) {
            tracing::debug!(resource, name, "the watch lost its place and lists again");
            return None;
        }
        if last.as_ref() == Some(&trouble) {
            tracing::debug!(resource, name, reason, error = words(error), "the watch still fails");
        } else {
            tracing::warn!(resource, name, reason, error = words(error), "{}", remedy(&trouble, watch));
        }
        *last = Some(trouble.clone());
        Some(trouble)
    }
}

/// Waits for more keys than there were, and says which epoch that is; for ever where none are kept.
async fn more_keys(keys: &mut Option<Receiver<Arc<Keys>>>) -> u64 {
    if let Some(keys) = keys
        && keys.changed().await.is_ok()
    {
        return keys.borrow_and_update().epoch;
    }
    std::future::pending().await
}

fn remedy(trouble: &Trouble, watch: Watch) -> &'static str {
    match trouble {
        Trouble::Absent if watch == Watch::Guests => "KubeVirt is not installed: running on without guests",
        Trouble::Absent => {
            "the CRD is not installed: apply what `overcommit-operator crds` prints; trying again"
        }
        Trouble::Forbidden if watch == Watch::ConfigMaps => {
            "permission to list and watch is missing: check the Role in the operator's namespace; trying again"
        }
        Trouble::Forbidden => "permission to list and watch is missing: check the ClusterRole; trying again",
        Trouble::Failing(_) => "the watch failed; trying again",
    }
}

fn code(error: &watcher::Error) -> Option<u16> {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => Some(status.code),
        InitialListFailed(_) | WatchStartFailed(_) | WatchFailed(_) | NoResourceVersion => None,
    }
}

#[cfg(test)]
mod tests {
    use overcommit_crds::policy::PROGRAM_MAX;

    use super::*;
    use crate::build::SPEC_MAX;

    /// Most of a page of our own kinds, in bytes.
    const PAGE_MAX: usize = 8 * 1024 * 1024;

    #[tokio::test]
    async fn a_config_map_of_which_other_keys_are_named_is_read_anew_and_no_other_is() {
        // Nothing here waits, so nobody ever asks that server.
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let (changes, _changes) = tokio::sync::mpsc::channel(1);
        let mut readers = Readers::of(client, "system".to_owned(), changes, metrics);
        let wanted = |pairs: &[(&str, &[&str])]| -> Wanted {
            let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
            pairs.iter().map(|(name, named)| ((*name).to_owned(), keys(named))).collect()
        };
        let mut follow = |pairs: &[(&str, &[&str])]| {
            readers.follow(&wanted(pairs));
            ["a", "b"].map(|name| readers.running.get(name).map(|reader| reader.watch.id()))
        };
        let first = follow(&[("a", &["x"]), ("b", &["x"])]);
        assert_eq!(follow(&[("a", &["x"]), ("b", &["x"])]), first);
        let more = follow(&[("a", &["x", "y"]), ("b", &["x"])]);
        assert!(more[0].is_some() && more[0] != first[0] && more[1] == first[1], "{more:?}");
        assert_eq!(follow(&[("b", &["x"])]), [None, first[1]]);
    }

    #[test]
    fn what_tenants_write_comes_in_small_pages() {
        for watch in [Watch::Launchers, Watch::Guests] {
            assert!(config(watch).page_size.is_some_and(|size| size <= 50), "{watch:?}");
        }
    }

    #[test]
    fn objects_that_may_have_a_program_come_in_pages_that_fit_into_little_memory() {
        for watch in [Watch::Policies, Watch::Objects] {
            let page = config(watch).page_size.and_then(|size| usize::try_from(size).ok());
            assert!(
                page.is_some_and(|size| size * (SPEC_MAX + PROGRAM_MAX) <= PAGE_MAX),
                "{watch:?}: {page:?}"
            );
        }
    }
}

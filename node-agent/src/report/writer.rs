//! One task writes the status: on material change, never more often than allowed, refreshed with jitter.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter as EventReporter};
use kube::{Api, Client, Resource as _};
use overcommit_crds::condition::Condition;
use overcommit_crds::names::AGENT_MANAGER;
use overcommit_crds::node::{NodeOvercommit, NodeOvercommitStatus};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Action, Report, status};
use crate::orders::Version;

/// Between two writes, unless a condition or the revision changed.
const SPACING: Duration = Duration::from_secs(30);
/// Between two writes whatever changed: state changes are what people and the operator wait for.
const URGENT_SPACING: Duration = Duration::from_secs(2);
/// A status without change is written again within this time, so that its age says that the agent lives.
const REFRESH: Duration = Duration::from_mins(5);
/// Every call to the API server ends by then.
const DEADLINE: Duration = Duration::from_secs(10);
/// Actions remembered.
const REMEMBERED: usize = 5;

/// Writes the status of one NodeOvercommit.
pub(crate) struct Writer {
    api: Api<NodeOvercommit>,
    name: String,
    recorder: Recorder,
    written: Option<NodeOvercommitStatus>,
    actions: Vec<Action>,
    about: Option<ObjectReference>,
    last_write: Option<Instant>,
    failures: u32,
    /// The object as the last write left it.
    seen: Option<Seen>,
}

/// Which object, and how it stood.
#[derive(Debug)]
struct Seen {
    uid: String,
    resource_version: String,
}

impl Seen {
    fn of(object: &NodeOvercommit) -> Self {
        Self {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// Why a status was not written.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer within the deadline")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the object was made anew; the orders in it have not come yet")]
    MadeAnew,
}

impl Writer {
    /// A writer for the node's own object.
    pub(crate) fn new(client: Client, node: &str) -> Self {
        let reporter =
            EventReporter { controller: "overcommit-agent".to_owned(), instance: Some(node.to_owned()) };
        Self {
            api: Api::all(client.clone()),
            name: node.to_owned(),
            recorder: Recorder::new(client, reporter),
            written: None,
            actions: Vec::new(),
            about: None,
            last_write: None,
            failures: 0,
            seen: None,
        }
    }

    /// Runs until the loop is gone, then writes once more.
    pub(crate) async fn run(mut self, mut reports: watch::Receiver<Option<Arc<Report>>>) {
        loop {
            let refresh = self.last_write.unwrap_or_else(Instant::now) + self.refresh_after();
            let gone = tokio::select! {
                changed = reports.changed() => changed.is_err(),
                () = sleep_until(refresh) => false,
            };
            let latest = reports.borrow_and_update().clone();
            if let Some(report) = latest {
                self.remember(&report).await;
                self.consider(&report, gone).await;
            }
            if gone {
                return;
            }
        }
    }

    /// Full jitter, from the node's name: 5,000 agents must not refresh together.
    fn refresh_after(&self) -> Duration {
        let spread =
            self.name.bytes().fold(7_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b))) % 120;
        REFRESH.saturating_sub(Duration::from_secs(u64::from(spread)))
    }

    async fn remember(&mut self, report: &Report) {
        for action in report.actions.iter().filter(|a| a.failed.is_none()) {
            self.actions.insert(0, action.clone());
            if action.undoes {
                self.publish(EventType::Warning, "TakeUndone", format!("{}: {}", action.guest, action.why))
                    .await;
            }
        }
        self.actions.truncate(REMEMBERED);
    }

    async fn consider(&mut self, report: &Report, last: bool) {
        let before = self.written.as_ref().map_or(&[][..], |s| &s.conditions);
        let fresh = status::render(report, before, &self.actions);
        let since = self.last_write.map(|at| at.elapsed());
        let due = match (&self.written, since) {
            (_, None) => true,
            (None, Some(since)) => since >= URGENT_SPACING * (1 << self.failures.min(4)),
            (Some(old), Some(since)) if turned(old, &fresh) => last || since >= URGENT_SPACING,
            (Some(old), Some(since)) if changed(old, &fresh) => since >= SPACING,
            (Some(_), Some(since)) => since >= self.refresh_after(),
        };
        if due {
            self.write(fresh, report.version.as_ref()).await;
        }
    }

    async fn write(&mut self, fresh: NodeOvercommitStatus, version: Option<&Version>) {
        self.last_write = Some(Instant::now());
        let Some(version) = version else { return };
        let mut patched = self.patch(&fresh, version).await;
        if matches!(&patched, Err(Unwritten::Api(kube::Error::Api(refused))) if refused.is_conflict()) {
            // Somebody, mostly the operator, wrote the object since it was last seen.
            patched = self.patch(&fresh, version).await;
        }
        match patched {
            Ok(object) => {
                let before = self.written.replace(fresh);
                self.failures = 0;
                let conditions = object.status.as_ref().map_or(Vec::new(), |s| s.conditions.clone());
                self.about = Some(object.object_ref(&()));
                self.tell(before.as_ref(), &conditions).await;
            }
            Err(error) => self.failed(&error.to_string()),
        }
    }

    /// Writes the status of the object whose orders were obeyed, and of no other of that name: an object made anew
    /// counts its generations from 1, and a word about its predecessor would pass for one about it. Only the resource
    /// version can say so: the API server ignores a UID in a patch of the status.
    async fn patch(
        &mut self,
        fresh: &NodeOvercommitStatus,
        version: &Version,
    ) -> Result<NodeOvercommit, Unwritten> {
        let seen = match self.seen.take().filter(|seen| seen.uid == version.uid) {
            Some(seen) => seen,
            None => Seen::of(&timeout(DEADLINE, self.api.get(&self.name)).await??),
        };
        if seen.uid != version.uid {
            return Err(Unwritten::MadeAnew);
        }
        let body = serde_json::json!({
            "apiVersion": NodeOvercommit::api_version(&()),
            "kind": NodeOvercommit::kind(&()),
            "metadata": { "resourceVersion": seen.resource_version },
            "status": fresh,
        });
        let params = PatchParams::apply(AGENT_MANAGER).force();
        let patch = Patch::Apply(&body);
        let object = timeout(DEADLINE, self.api.patch_status(&self.name, &params, &patch)).await??;
        self.seen = Some(Seen::of(&object));
        Ok(object)
    }

    fn failed(&mut self, why: &str) {
        self.written = None;
        self.failures = self.failures.saturating_add(1);
        tracing::warn!(why, failures = self.failures, "status not written; the loop goes on");
    }

    /// Events for state changes only.
    async fn tell(&self, before: Option<&NodeOvercommitStatus>, now: &[Condition]) {
        let old = before.map_or(&[][..], |s| &s.conditions);
        for condition in now {
            let known = Condition::find(old, &condition.type_);
            if known.is_some_and(|k| k.reason == condition.reason) {
                continue;
            }
            let bad = condition.type_ == overcommit_crds::names::condition::DEGRADED
                && condition.status == overcommit_crds::condition::ConditionStatus::True;
            if condition.reason == "AsExpected" && known.is_none() {
                continue;
            }
            let type_ = if bad { EventType::Warning } else { EventType::Normal };
            self.publish(type_, &condition.reason, condition.message.clone()).await;
        }
    }

    /// An event about the node's object, once that is known.
    async fn publish(&self, type_: EventType, reason: &str, note: String) {
        let Some(about) = &self.about else { return };
        let (reason, action) = (reason.to_owned(), "Report".to_owned());
        let event = Event { type_, reason, note: Some(note), action, secondary: None };
        if let Ok(Err(error)) = timeout(DEADLINE, self.recorder.publish(&event, about)).await {
            tracing::warn!(%error, "event not written");
        }
    }
}

/// A condition, the generation it speaks of, or the revision changed: somebody waits for that.
fn turned(old: &NodeOvercommitStatus, new: &NodeOvercommitStatus) -> bool {
    let key = |s: &NodeOvercommitStatus| {
        let of = |c: &Condition| (c.type_.clone(), c.status, c.reason.clone(), c.observed_generation);
        let conditions: Vec<_> = s.conditions.iter().map(of).collect();
        (s.observed_revision.clone(), conditions)
    };
    key(old) != key(new)
}

/// Anything but the time of measurement and the noise of pressure and resident sizes changed.
fn changed(old: &NodeOvercommitStatus, new: &NodeOvercommitStatus) -> bool {
    let still =
        |s: &NodeOvercommitStatus| NodeOvercommitStatus { reported_at: None, pressure: None, ..s.clone() };
    still(old) != still(new)
}

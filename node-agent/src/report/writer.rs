//! One task writes the status: on material change, at its pace, refreshed with jitter.

use std::collections::VecDeque;
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

use super::done::Done;
use super::material::turned;
use super::pace::Pace;
use super::{Action, Report, status};
use crate::contact::{Ask, Contact, Fault};
use crate::orders::{Standing, Version};

/// Every call to the API server ends by then.
const DEADLINE: Duration = Duration::from_secs(10);
/// Actions remembered.
const REMEMBERED: usize = 5;
/// Undone takes that wait for their events.
const UNTOLD: usize = 64;

/// Writes the status of one NodeOvercommit.
pub(crate) struct Writer {
    api: Api<NodeOvercommit>,
    name: String,
    recorder: Recorder,
    contact: Arc<Contact>,
    written: Option<NodeOvercommitStatus>,
    actions: Vec<Action>,
    /// Takes that were undone and of which no event tells yet, the oldest first.
    undone: VecDeque<Action>,
    about: Option<ObjectReference>,
    pace: Pace,
    /// The object as the last write left it.
    seen: Option<Seen>,
    /// That there is no object was told.
    told_gone: bool,
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
    pub(crate) fn new(client: Client, node: &str, contact: Arc<Contact>) -> Self {
        let reporter =
            EventReporter { controller: "overcommit-agent".to_owned(), instance: Some(node.to_owned()) };
        Self {
            api: Api::all(client.clone()),
            name: node.to_owned(),
            recorder: Recorder::new(client, reporter),
            contact,
            written: None,
            actions: Vec::new(),
            undone: VecDeque::new(),
            about: None,
            pace: Pace::new(node),
            seen: None,
            told_gone: false,
        }
    }

    /// Runs until the loop is gone, then writes once more.
    pub(crate) async fn run(mut self, mut reports: watch::Receiver<Option<Arc<Report>>>, done: Done) {
        loop {
            let refresh = self.pace.refresh_at(Instant::now());
            let gone = tokio::select! {
                changed = reports.changed() => changed.is_err(),
                () = sleep_until(refresh) => false,
            };
            let latest = reports.borrow_and_update().clone();
            self.remember(done.take());
            if let Some(report) = latest {
                self.consider(&report, gone).await;
            }
            self.tell_undone().await;
            if gone {
                return;
            }
        }
    }

    fn remember(&mut self, done: Vec<Action>) {
        self.undone.extend(done.iter().filter(|action| action.undoes).cloned());
        let too_many = self.undone.len().saturating_sub(UNTOLD);
        if too_many > 0 {
            self.undone.drain(..too_many);
            tracing::warn!(too_many, "takes were undone and no event tells of them");
        }
        let newest_first = done.into_iter().rev().chain(std::mem::take(&mut self.actions));
        self.actions = newest_first.take(REMEMBERED).collect();
    }

    /// Events of takes that were undone; the rest with the next report if the API server does not take one now.
    async fn tell_undone(&mut self) {
        while let Some(action) = self.undone.front() {
            // Events that differ in their notes alone count as one: the guest and what failed are to tell them apart.
            let event = Event {
                type_: EventType::Warning,
                reason: "TakeUndone".to_owned(),
                note: Some(format!("{}: {}", action.guest, action.why)),
                action: action.reason.to_owned(),
                secondary: guest(&action.guest),
            };
            if !self.publish(&event).await {
                return;
            }
            self.undone.pop_front();
        }
    }

    async fn consider(&mut self, report: &Report, last: bool) {
        let never_was = report.orders_missing_since.is_some() && self.contact.knows_of_none();
        if report.standing == Standing::Gone || never_was {
            return self.tell_gone(report).await;
        }
        self.told_gone = false;
        let before = self.written.as_ref().map_or(&[][..], |s| &s.conditions);
        let mut fresh = status::render(report, before, &self.actions);
        let now = Instant::now();
        self.pace.settle(&mut fresh, now);
        status::fit(&mut fresh);
        if self.pace.is_due(self.written.as_ref(), &fresh, last, now) {
            self.write(fresh, report.version.as_ref()).await;
        }
    }

    async fn write(&mut self, fresh: NodeOvercommitStatus, version: Option<&Version>) {
        let (began, turned) = (Instant::now(), self.written.as_ref().is_none_or(|old| turned(old, &fresh)));
        let mut patched = self.patch(&fresh, version).await;
        if matches!(&patched, Err(Unwritten::Api(kube::Error::Api(refused))) if refused.is_conflict()) {
            // Somebody, mostly the operator, wrote the object since it was last seen.
            patched = self.patch(&fresh, version).await;
        }
        self.pace.wrote(patched.is_ok(), turned, began);
        match patched {
            Ok(object) => {
                self.contact.well(Ask::Status);
                let before = self.written.replace(fresh);
                let conditions = object.status.as_ref().map_or(Vec::new(), |s| s.conditions.clone());
                self.about = Some(object.object_ref(&()));
                self.tell(before.as_ref(), &conditions).await;
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Writes the status of the object whose orders were obeyed, and of no other of that name: an object made anew
    /// counts its generations from 1, and a word about its predecessor would pass for one about it. Only the resource
    /// version can say so: the API server ignores a UID in a patch of the status.
    async fn patch(
        &mut self,
        fresh: &NodeOvercommitStatus,
        version: Option<&Version>,
    ) -> Result<NodeOvercommit, Unwritten> {
        // That there are no orders may be told to any object of that name: it is a word about none, and says so.
        let is_meant = |seen: &Seen| version.is_none_or(|version| seen.uid == version.uid);
        let seen = match self.seen.take().filter(is_meant) {
            Some(seen) => seen,
            None => Seen::of(&timeout(DEADLINE, self.api.get(&self.name)).await??),
        };
        if !is_meant(&seen) {
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

    fn failed(&mut self, why: &Unwritten) {
        self.written = None;
        let fault = match why {
            // Overtaken by another write, or by the object's end: the watch tells.
            Unwritten::Api(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => None,
            Unwritten::MadeAnew => None,
            Unwritten::Api(error) => Some(Fault::of(error)),
            Unwritten::Late(_) => Some(Fault::Silent),
        };
        match fault {
            Some(fault) => self.contact.failed(Ask::Status, fault, why),
            None => {
                tracing::warn!(%why, failures = self.pace.failures(), "status not written; the loop goes on");
            }
        }
    }

    /// An object that is gone has no status: an event says what is so. Once Released was asked for, it is as it should.
    async fn tell_gone(&mut self, report: &Report) {
        self.written = None;
        if std::mem::replace(&mut self.told_gone, true) || report.release.is_some() {
            return;
        }
        let uid = report.version.as_ref().map(|version| version.uid.clone());
        self.about = Some(ObjectReference {
            api_version: Some(NodeOvercommit::api_version(&()).into_owned()),
            kind: Some(NodeOvercommit::kind(&()).into_owned()),
            name: Some(self.name.clone()),
            uid,
            ..ObjectReference::default()
        });
        let note = report.troubles.iter().next().unwrap_or_default().to_owned();
        let reason = if report.standing == Standing::Gone { "OrdersGone" } else { "NoOrders" };
        self.publish(&report_of(EventType::Warning, reason, note)).await;
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
            self.publish(&report_of(type_, &condition.reason, condition.message.clone())).await;
        }
    }

    /// An event about the node's object, once that is known; false if it may be told later.
    async fn publish(&self, event: &Event) -> bool {
        let Some(about) = &self.about else { return false };
        match timeout(DEADLINE, self.recorder.publish(event, about)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "event not written");
                // What was refused for what it is will be refused again.
                matches!(&error, kube::Error::Api(status) if (400..500).contains(&status.code))
            }
            Err(late) => {
                tracing::warn!(%late, "event not written");
                false
            }
        }
    }
}

/// An event about the node as a whole.
fn report_of(type_: EventType, reason: &str, note: String) -> Event {
    let (reason, action) = (reason.to_owned(), "Report".to_owned());
    Event { type_, reason, note: Some(note), action, secondary: None }
}

/// A guest by its full name.
fn guest(name: &str) -> Option<ObjectReference> {
    let (namespace, name) = name.split_once('/')?;
    Some(ObjectReference {
        api_version: Some("kubevirt.io/v1".to_owned()),
        kind: Some("VirtualMachineInstance".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    })
}

#[cfg(test)]
mod tests;

//! Events: for changes of state only, after the change is written, and never in the way of anything.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use overcommit_crds::condition::{Condition, ConditionStatus};
use overcommit_crds::names::{GROUP, OPERATOR_MANAGER, VERSION, condition};
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::object::{Object, Policy};
use crate::release;
use crate::status::RELEASE_TIMEOUT;
use crate::verdict::{PROGRAM_MISSING, PROGRAM_REFUSED};
use crate::words::words;

/// Longest note (pkg/apis/core/validation/events.go, `NoteLengthLimit`).
const NOTE_MAX: usize = 1024;
/// Notes that wait to be written; more are dropped and counted.
const BACKLOG: usize = 256;
/// Deadline of one write.
const DEADLINE: Duration = Duration::from_secs(5);

/// One thing to tell about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    kind: &'static str,
    name: String,
    uid: Option<String>,
    warning: bool,
    action: &'static str,
    reason: String,
    text: String,
}

impl Note {
    fn policy(policy: &Policy, warning: bool, action: &'static str, reason: &str, text: String) -> Self {
        let (name, uid, reason) = (policy.name.clone(), Some(policy.uid.clone()), reason.to_owned());
        Self { kind: "OvercommitPolicy", name, uid, warning, action, reason, text }
    }

    fn node(node: &str, uid: Option<&str>, action: &'static str, reason: &str, text: String) -> Self {
        let (name, uid, reason) = (node.to_owned(), uid.map(str::to_owned), reason.to_owned());
        Self { kind: "NodeOvercommit", name, uid, warning: false, action, reason, text }
    }

    /// A node is given a policy.
    pub(crate) fn taken(policy: &Policy, node: &str) -> Self {
        // The object may not be there yet: its UID comes with the answer to the write.
        Self::node(node, None, "Take", "NodeTaken", format!("Policy {} holds on this node", policy.name))
    }

    /// A node is asked to give everything back.
    pub(crate) fn asked(object: &Object) -> Self {
        let text = match object.deleted {
            Some(_) => "This object is deleted: its node gives everything back first".to_owned(),
            None => format!("No policy takes this node after {}: it gives everything back", object.policy()),
        };
        Self::node(&object.name, Some(&object.uid), "Release", "ReleaseAsked", text)
    }

    /// A node has given everything back, or is gone.
    pub(crate) fn released(object: &Object, node_exists: bool) -> Self {
        let text = if node_exists { "Everything is given back" } else { "The node is gone" };
        Self::node(&object.name, Some(&object.uid), "Release", "NodeReleased", text.to_owned())
    }

    /// The waiting for a node whose object somebody deletes has ended.
    pub(crate) fn overdue(object: &Object) -> Self {
        let text = format!("The object goes although its node has not given back: {}", release::said(object));
        let told = Self::node(&object.name, Some(&object.uid), "Release", RELEASE_TIMEOUT, text);
        Self { warning: true, ..told }
    }

    /// What is new in a policy's conditions.
    pub(crate) fn changes(policy: &Policy, after: &[Condition]) -> Vec<Self> {
        let new = |type_: &str| {
            let then = Condition::find(&policy.status.conditions, type_);
            let now = Condition::find(after, type_)?;
            let same = then.is_some_and(|c| (c.status, &c.reason) == (now.status, &now.reason));
            (!same).then_some(now)
        };
        let accepted = new(condition::ACCEPTED).map(|c| {
            let refused =
                matches!(c.reason.as_str(), "Invalid" | "Overridden" | PROGRAM_MISSING | PROGRAM_REFUSED);
            Self::policy(policy, refused, "Accept", &c.reason, c.message.clone())
        });
        let overdue = new(condition::DEGRADED)
            .filter(|c| c.reason == RELEASE_TIMEOUT && c.status == ConditionStatus::True)
            .map(|c| Self::policy(policy, true, "Release", &c.reason, c.message.clone()));
        accepted.into_iter().chain(overdue).collect()
    }

    /// The same about an object whose UID has become known.
    pub(crate) fn about(mut self, uid: Option<&str>) -> Self {
        self.uid = self.uid.or_else(|| uid.map(str::to_owned));
        self
    }

    fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(self.kind.to_owned()),
            name: Some(self.name.clone()),
            uid: self.uid.clone(),
            ..ObjectReference::default()
        }
    }

    fn event(&self) -> Event {
        let mut text = self.text.clone();
        while text.len() > NOTE_MAX {
            text.pop();
        }
        Event {
            type_: if self.warning { EventType::Warning } else { EventType::Normal },
            reason: self.reason.clone(),
            note: Some(text),
            action: self.action.to_owned(),
            secondary: None,
        }
    }
}

/// Where notes are put; a full backlog drops them.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    queue: mpsc::Sender<Note>,
    metrics: Metrics,
}

impl Teller {
    /// Starts the task that writes the events.
    pub(crate) fn start(client: Client, metrics: Metrics) -> Self {
        let (queue, inbox) = mpsc::channel(BACKLOG);
        tokio::spawn(write(client, inbox, metrics.clone()));
        Self { queue, metrics }
    }

    /// Tells, some time soon.
    pub(crate) fn tell(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}

async fn write(client: Client, mut inbox: mpsc::Receiver<Note>, metrics: Metrics) {
    let reporter = Reporter { controller: OPERATOR_MANAGER.to_owned(), instance: None };
    let recorder = Recorder::new(client, reporter);
    while let Some(note) = inbox.recv().await {
        let (event, reference) = (note.event(), note.reference());
        let told = tokio::time::timeout(DEADLINE, recorder.publish(&event, &reference)).await;
        let error = match told {
            Ok(Ok(())) => {
                metrics.written("create", "events", "ok");
                continue;
            }
            Ok(Err(error)) => words(&error),
            Err(_) => format!("no answer within {DEADLINE:?}"),
        };
        metrics.written("create", "events", "error");
        metrics.events_dropped.inc();
        tracing::warn!(reason = note.reason, about = note.name, error, "an event could not be written");
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}: {}", self.kind, self.name, self.reason, self.text)
    }
}

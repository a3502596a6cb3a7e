//! Carries one write out, each call with a deadline, and gives back what the API server made of it.

use std::time::Duration;

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use overcommit_crds::NodeOvercommitSpec;
use overcommit_crds::names::{GROUP, OPERATOR_MANAGER, POLICY_LABEL, RELEASE_FINALIZER, VERSION};
use serde_json::{Value, json};

use crate::index::{Change, Delta};
use crate::object::{Object, Policy};
use crate::plan::Desired;
use crate::queue::Failure;
use crate::watch;

/// Deadline of one call.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server refused it or could not be reached.
    #[error("the API server")]
    Api(#[from] kube::Error),
    /// No answer in time.
    #[error("no answer within {DEADLINE:?}")]
    Late,
}

impl Error {
    /// When to try again.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Api(kube::Error::Api(status)) if status.code == 403 => Failure::Forbidden,
            Self::Api(kube::Error::Api(status)) => {
                let seconds = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
                Failure::Passing((seconds > 0).then(|| Duration::from_secs(u64::from(seconds))))
            }
            Self::Api(_) | Self::Late => Failure::Passing(None),
        }
    }

    /// One word for metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Api(kube::Error::Api(status)) => match status.code {
                403 => "forbidden",
                404 => "not_found",
                409 => "conflict",
                410 => "gone",
                422 => "invalid",
                429 => "throttled",
                _ => "refused",
            },
            Self::Api(_) => "connection",
            Self::Late => "timeout",
        }
    }
}

impl Desired {
    /// Verb and resource, for metrics and logs.
    pub(crate) fn call(&self) -> (&'static str, &'static str) {
        match self {
            Self::Finalizers { .. } => ("patch", "overcommitpolicies"),
            Self::Object { .. } => ("apply", "nodeovercommits"),
            Self::Release { .. } | Self::Unhold { .. } => ("patch", "nodeovercommits"),
            Self::Delete { .. } => ("delete", "nodeovercommits"),
            Self::Status { .. } => ("apply", "overcommitpolicies/status"),
        }
    }
}

/// Carries it out.
///
/// # Errors
/// A refusal, a broken connection, or no answer in time.
pub(crate) async fn write(client: Client, desired: Desired) -> Result<Change, Error> {
    tokio::time::timeout(DEADLINE, call(client, desired)).await.map_err(|_| Error::Late)?
}

async fn call(client: Client, desired: Desired) -> Result<Change, Error> {
    let policies = || Api::<DynamicObject>::all_with(client.clone(), &watch::policies());
    let objects = || Api::<DynamicObject>::all_with(client.clone(), &watch::objects());
    let force = PatchParams::apply(OPERATOR_MANAGER).force();
    match desired {
        Desired::Finalizers { policy, uid, version, finalizers } => {
            let body = finalizers_body(&uid, &version, &finalizers);
            let after = Policy::from(policies().patch(&policy, &merging(), &Patch::Merge(body)).await?);
            let gone = after.deleted.is_some() && after.finalizers.is_empty();
            Ok(Change::Policies(if gone { Delta::Delete(policy) } else { Delta::Apply(after) }))
        }
        Desired::Object { node, node_uid, spec } => {
            let body = object_body(&node, &node_uid, &spec);
            let after = objects().patch(&node, &force, &Patch::Apply(body)).await?;
            Ok(Change::Objects(Delta::Apply(Object::from(after))))
        }
        Desired::Release { node, uid } => {
            // With the UID, so that it neither makes an object nor touches a successor.
            let body = json!({ "metadata": { "uid": uid }, "spec": { "release": true } });
            let after = objects().patch(&node, &merging(), &Patch::Merge(body)).await?;
            Ok(Change::Objects(Delta::Apply(Object::from(after))))
        }
        Desired::Unhold { node, uid, version, finalizers } => {
            let body = finalizers_body(&uid, &version, &finalizers);
            let after = Object::from(objects().patch(&node, &merging(), &Patch::Merge(body)).await?);
            let gone = after.deleted.is_some() && after.finalizers.is_empty();
            Ok(Change::Objects(if gone { Delta::Delete(node) } else { Delta::Apply(after) }))
        }
        Desired::Delete { node, uid } => {
            let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
            let params = DeleteParams { preconditions, ..DeleteParams::default() };
            match objects().delete(&node, &params).await {
                Ok(either) => Ok(Change::Objects(match either.left().map(Object::from) {
                    // Somebody else's finalizer holds it.
                    Some(object) if object.deleted.is_some() => Delta::Apply(object),
                    _ => Delta::Delete(node),
                })),
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    Ok(Change::Objects(Delta::Delete(node)))
                }
                Err(error) => Err(error.into()),
            }
        }
        Desired::Status { policy, uid, status } => {
            let metadata = json!({ "name": policy, "uid": uid });
            let body = json!({ "apiVersion": api_version(), "kind": "OvercommitPolicy", "metadata": metadata, "status": status });
            let after = policies().patch_status(&policy, &force, &Patch::Apply(body)).await?;
            Ok(Change::Policies(Delta::Apply(Policy::from(after))))
        }
    }
}

fn merging() -> PatchParams {
    PatchParams { field_manager: Some(OPERATOR_MANAGER.to_owned()), ..PatchParams::default() }
}

/// With the version, so that nobody else's finalizer is lost; with the UID, so that no successor is touched.
fn finalizers_body(uid: &str, version: &str, finalizers: &[String]) -> Value {
    json!({ "metadata": { "uid": uid, "resourceVersion": version, "finalizers": finalizers } })
}

fn api_version() -> String {
    format!("{GROUP}/{VERSION}")
}

fn object_body(node: &str, node_uid: &str, spec: &NodeOvercommitSpec) -> Value {
    let owner = json!({ "apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid });
    let labels = json!({ POLICY_LABEL: spec.policy });
    // Held until its node has given back, whoever deletes it: without an object nobody asks for that.
    let metadata = json!({ "name": node, "labels": labels, "ownerReferences": [owner], "finalizers": [RELEASE_FINALIZER] });
    json!({ "apiVersion": api_version(), "kind": "NodeOvercommit", "metadata": metadata, "spec": spec })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn refused(code: u16, retry_after: u64) -> Error {
        let status = json!({ "code": code, "details": { "retryAfterSeconds": retry_after } });
        let status: Status = serde_json::from_value(status).unwrap();
        Error::Api(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn what_may_pass_is_tried_again_when_the_server_says() {
        assert_eq!(refused(429, 7).failure(), Failure::Passing(Some(Duration::from_secs(7))));
        assert_eq!(refused(409, 0).failure(), Failure::Passing(None));
        assert_eq!(refused(403, 0).failure(), Failure::Forbidden);
        assert_eq!(Error::Late.failure(), Failure::Passing(None));
        assert_eq!((refused(410, 0).word(), refused(429, 0).word()), ("gone", "throttled"));
    }

    #[test]
    fn an_object_is_owned_by_its_node_held_by_us_and_labelled_with_its_policy() {
        let spec = crate::fixture::object("a", "gold").spec.unwrap();
        let body = object_body("a", "uid-a", &spec);
        assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "uid-a");
        assert_eq!(body["metadata"]["labels"][POLICY_LABEL], "gold");
        assert_eq!(body["metadata"]["finalizers"], json!([RELEASE_FINALIZER]));
        assert_eq!(body["apiVersion"], "overcommit.dev/v1alpha1");
    }
}

//! `release`: the way out of the whole cluster, for the chart's hook before it is deleted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, ObjectList, Preconditions};
use overcommit_crds::condition::Condition;
use overcommit_crds::names::condition;

use crate::object::{Object, Policy};
use crate::watch;
use crate::words::words;

/// Deadline of one call.
const DEADLINE: Duration = Duration::from_secs(5);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Why memory may still be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Not done in time.
    #[error(
        "not released within {waited:?}: {left}. Are the operator and the agents of these nodes running?"
    )]
    Timeout {
        /// How long it waited.
        waited: Duration,
        /// Policies and nodes that are left, with what is known of them.
        left: String,
    },
    /// Missing permission.
    #[error("{}: grant list and delete on overcommitpolicies and list on nodeovercommits", words(.0))]
    Forbidden(kube::Error),
}

/// What is left to be released.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    policies: Vec<String>,
    nodes: BTreeMap<String, String>,
}

impl Left {
    fn of(policies: &[Policy], objects: &[Object]) -> Self {
        let word = |object: &Object| {
            let said = Condition::find(&object.status.conditions, condition::RELEASED);
            match said {
                _ if !object.release_requested => "not asked to release yet".to_owned(),
                Some(said) if !said.message.is_empty() => said.message.clone(),
                _ => "no answer from its agent".to_owned(),
            }
        };
        Self {
            policies: policies.iter().map(|p| p.name.clone()).collect(),
            nodes: objects.iter().map(|o| (o.name.clone(), word(o))).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.nodes.is_empty()
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nodes: Vec<String> = self.nodes.iter().map(|(node, why)| format!("{node} ({why})")).collect();
        let list = |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
        write!(f, "policies: {}; nodes: {}", list(&self.policies), list(&nodes))
    }
}

/// Deletes every policy and waits until no policy and no node's object is left, telling each step on standard output.
///
/// # Errors
/// What is left when the time is over, or a missing permission.
pub(crate) async fn release(client: Client, timeout: Duration) -> Result<(), Error> {
    let began = Instant::now();
    let mut last = String::from("nothing could be read from the API server");
    loop {
        match look(&client).await {
            Ok(left) if left.is_empty() => {
                println!("everything is given back after {} s", began.elapsed().as_secs());
                return Ok(());
            }
            Ok(left) => tell(&mut last, left.to_string(), began),
            Err(error) if forbidden(&error) => return Err(Error::Forbidden(error)),
            Err(error) => tell(&mut last, format!("the API server: {}", words(&error)), began),
        }
        if began.elapsed() >= timeout {
            return Err(Error::Timeout { waited: timeout, left: last });
        }
        tokio::time::sleep(PAUSE.min(timeout.saturating_sub(began.elapsed()))).await;
    }
}

fn tell(last: &mut String, now: String, began: Instant) {
    if *last != now {
        println!("{:>4} s  waiting for {now}", began.elapsed().as_secs());
        *last = now;
    }
}

fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// Asks for the deletion of what is not being deleted yet, and says what is left.
async fn look(client: &Client) -> Result<Left, kube::Error> {
    let api = Api::<DynamicObject>::all_with(client.clone(), &watch::policies());
    let policies: Vec<Policy> = list(&api).await?.into_iter().map(Policy::from).collect();
    for policy in policies.iter().filter(|p| p.deleted.is_none()) {
        println!("        deleting policy {}", policy.name);
        let preconditions = Some(Preconditions { uid: Some(policy.uid.clone()), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        let deleted = in_time(api.delete(&policy.name, &params)).await.map(drop);
        ignore(deleted, &[404, 409])?;
    }
    let api = Api::<DynamicObject>::all_with(client.clone(), &watch::objects());
    let objects: Vec<Object> = list(&api).await?.into_iter().map(Object::from).collect();
    Ok(Left::of(&policies, &objects))
}

/// All objects; none where the kind does not exist.
async fn list(api: &Api<DynamicObject>) -> Result<Vec<DynamicObject>, kube::Error> {
    match in_time(api.list(&ListParams::default())).await {
        Ok(ObjectList { items, .. }) => Ok(items),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn ignore(result: Result<(), kube::Error>, codes: &[u16]) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if codes.contains(&status.code) => Ok(()),
        other => other,
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let late = || kube::Error::Service(format!("no answer within {DEADLINE:?}").into());
    tokio::time::timeout(DEADLINE, call).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{policy, releasing, running};

    #[test]
    fn what_is_left_names_policies_and_nodes_with_the_reason() {
        let left = Left::of(&[policy("gold", 0)], &[releasing("a", "gold", false), running("b", "gold")]);
        assert_eq!(left.to_string(), "policies: gold; nodes: a (short 2 GiB), b (not asked to release yet)");
        assert!(!left.is_empty());
        assert!(Left::default().is_empty());
    }
}

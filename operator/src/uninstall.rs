//! `release`: the way out of the whole cluster, for the chart's hook before it is deleted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Preconditions, Request};
use kube::core::ListMeta;
use kube::{Client, Resource};
use overcommit_crds::names::condition;
use overcommit_crds::{NodeOvercommit, OvercommitPolicy};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::watch;
use crate::words::{print, words};

/// Deadline of one call.
const DEADLINE: Duration = Duration::from_secs(5);
/// Pause between two looks, at least; a look at thousands of nodes that took longer is followed by a longer one.
const PAUSE: Duration = Duration::from_secs(1);
/// Objects of one answer. One may have 68 KiB, of which a name and a sentence are kept.
const PAGE: u32 = 100;
/// Nodes that are named.
const NAMED: usize = 20;

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

/// One page of a list.
#[derive(Debug, Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: ListMeta,
    items: Vec<T>,
}

/// What matters of a policy.
#[derive(Debug, Deserialize)]
struct Policy {
    metadata: Meta,
}

/// What matters of a node's object.
#[derive(Debug, Deserialize)]
struct Object {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    uid: String,
    #[serde(default)]
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    release: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Vec<Said>,
}

#[derive(Debug, Deserialize)]
struct Said {
    #[serde(rename = "type")]
    type_: String,
    #[serde(default)]
    message: String,
}

impl Object {
    /// Why it is still there.
    fn word(&self) -> String {
        let said = self.status.conditions.iter().find(|c| c.type_ == condition::RELEASED);
        match said {
            _ if !self.spec.release => "not asked to release yet".to_owned(),
            Some(said) if !said.message.is_empty() => said.message.clone(),
            _ => "no answer from its agent".to_owned(),
        }
    }
}

/// What is left to be released.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    policies: Vec<String>,
    nodes: BTreeMap<String, String>,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.nodes.is_empty()
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = self.nodes.iter().take(NAMED).map(|(node, why)| format!("{node} ({why})"));
        let more = self.nodes.len().saturating_sub(NAMED);
        let rest = (more > 0).then(|| format!("and {more} more"));
        let nodes: Vec<String> = named.chain(rest).collect();
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
        let looked = Instant::now();
        match look(&client).await {
            Ok(left) if left.is_empty() => {
                say(&format!("everything is given back after {} s", began.elapsed().as_secs()));
                return Ok(());
            }
            Ok(left) => tell(&mut last, left.to_string(), began),
            Err(error) if forbidden(&error) => return Err(Error::Forbidden(error)),
            Err(error) => tell(&mut last, format!("the API server: {}", words(&error)), began),
        }
        if began.elapsed() >= timeout {
            return Err(Error::Timeout { waited: timeout, left: last });
        }
        let pause = PAUSE.max(looked.elapsed());
        tokio::time::sleep(pause.min(timeout.saturating_sub(began.elapsed()))).await;
    }
}

fn tell(last: &mut String, now: String, began: Instant) {
    if *last != now {
        say(&format!("{:>4} s  waiting for {now}", began.elapsed().as_secs()));
        *last = now;
    }
}

/// Told for people; what is done does not depend on whether somebody reads it.
fn say(line: &str) {
    drop(print(&format!("{line}\n")));
}

fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// Asks for the deletion of what is not being deleted yet, and says what is left.
async fn look(client: &Client) -> Result<Left, kube::Error> {
    let api = Api::<DynamicObject>::all_with(client.clone(), &watch::policies());
    let mut left = Left::default();
    let policies = OvercommitPolicy::url_path(&(), None);
    let mut going = Vec::new();
    each(client, &policies, |policy: Policy| {
        left.policies.push(policy.metadata.name.clone());
        if policy.metadata.deletion_timestamp.is_none() {
            going.push(policy.metadata);
        }
    })
    .await?;
    for Meta { name, uid, .. } in going {
        say(&format!("        deleting policy {name}"));
        let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        let deleted = in_time(api.delete(&name, &params)).await.map(drop);
        ignore(deleted, &[404, 409])?;
    }
    let objects = NodeOvercommit::url_path(&(), None);
    each(client, &objects, |object: Object| {
        left.nodes.insert(object.metadata.name.clone(), object.word());
    })
    .await?;
    Ok(left)
}

/// Takes all objects in, page by page; none where the kind does not exist. Only what `T` names is kept of an answer.
async fn each<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    mut take: impl FnMut(T),
) -> Result<(), kube::Error> {
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let request = Request::new(path).list(&params).map_err(kube::Error::BuildRequest)?;
        let page: Page<T> = match in_time(client.request(request)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            page => page?,
        };
        page.items.into_iter().for_each(&mut take);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
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
    use serde_json::{Value, json};

    fn object(name: &str, release: bool, said: Option<&str>) -> Object {
        let conditions: Vec<Value> =
            said.map(|message| json!({ "type": "Released", "message": message })).into_iter().collect();
        let object = json!({
            "metadata": { "name": name, "uid": "u", "labels": {} },
            "spec": { "release": release, "resolved": { "mode": "Observe" } },
            "status": { "conditions": conditions },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_is_left_names_policies_and_nodes_with_the_reason() {
        let objects =
            [object("a", true, Some("short 2 GiB")), object("b", false, None), object("c", true, None)];
        let nodes = objects.iter().map(|o| (o.metadata.name.clone(), o.word())).collect();
        let left = Left { policies: vec!["gold".into()], nodes };
        assert_eq!(
            left.to_string(),
            "policies: gold; nodes: a (short 2 GiB), b (not asked to release yet), c (no answer from its agent)"
        );
        assert!(!left.is_empty());
        assert!(Left::default().is_empty());
    }

    #[test]
    fn of_many_nodes_some_are_named() {
        let nodes = (0..5000).map(|n| (format!("node-{n:04}"), "short".to_owned())).collect();
        let text = Left { policies: Vec::new(), nodes }.to_string();
        assert!(text.ends_with("node-0019 (short), and 4980 more"), "{text}");
    }
}

//! Service accounts as pods have them: a token bound to a pod that is bound to a node, so that the token carries the
//! node's name as the claim that admission policies read (`authentication.kubernetes.io/node-name`).

use super::access::Access;
use crate::wait::until;
use anyhow::Result;
use std::time::Duration;

/// How long the controllers may take to follow.
const LIMIT: Duration = Duration::from_mins(2);

/// A service account, and where its pod runs.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Namespace of the service account.
    pub namespace: &'a str,
    /// Name of the service account.
    pub name: &'a str,
    /// The node whose name the token is to carry; none for a token that is bound to no pod.
    pub node: Option<&'a str>,
}

impl Access {
    /// Access as this service account. Namespace, service account, node and pod are created where they are missing;
    /// the node and the pod are objects only, nothing runs.
    ///
    /// To be called on an administrator's access.
    pub fn as_service_account(&self, who: Identity<'_>) -> Result<Self> {
        let Identity { namespace, name, node } = who;
        self.ensure_service_account(namespace, name)?;
        let token = match node {
            None => self.kubectl(&["create", "token", name, "--namespace", namespace])?,
            Some(node) => self.node_bound_token(namespace, name, node)?,
        };
        let file = format!("{namespace}.{name}.{}", node.unwrap_or("no-node"));
        self.with_token(&file, token.trim())
    }

    /// A client as this service account, see [`Access::as_service_account`].
    pub async fn client_as_service_account(&self, who: Identity<'_>) -> Result<kube::Client> {
        self.as_service_account(who)?.client().await
    }

    /// Creates a Node object if there is none: labels as `key=value`.
    pub fn ensure_node(&self, node: &str, labels: &[&str]) -> Result<()> {
        if self.kubectl(&["get", "node", node]).is_err() {
            self.apply(&format!(r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{node}"}}}}"#))?;
        }
        if !labels.is_empty() {
            let mut args = vec!["label", "--overwrite", "node", node];
            args.extend(labels);
            self.kubectl(&args)?;
        }
        Ok(())
    }

    fn ensure_service_account(&self, namespace: &str, name: &str) -> Result<()> {
        let metadata = |kind: &str, rest: &str| {
            format!(r#"{{"apiVersion":"v1","kind":"{kind}","metadata":{{{rest}}}}}"#)
        };
        if self.kubectl(&["get", "namespace", namespace]).is_err() {
            self.apply(&metadata("Namespace", &format!(r#""name":"{namespace}""#)))?;
        }
        if self.kubectl(&["get", "serviceaccount", name, "--namespace", namespace]).is_err() {
            self.apply(&metadata(
                "ServiceAccount",
                &format!(r#""name":"{name}","namespace":"{namespace}""#),
            ))?;
        }
        Ok(())
    }

    fn node_bound_token(&self, namespace: &str, name: &str, node: &str) -> Result<String> {
        self.ensure_node(node, &[])?;
        let pod = format!("{name}-on-{node}");
        let manifest = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": pod, "namespace": namespace },
            "spec": {
                "serviceAccountName": name,
                "nodeName": node,
                "tolerations": [{ "operator": "Exists" }],
                "containers": [{ "name": "none", "image": "none" }],
            },
        });
        // The pod is refused until the namespace's controllers have seen the service account.
        until(LIMIT, format!("pod {pod}"), || self.apply(&manifest.to_string()))?;
        let uid = self.field(namespace, &format!("pod/{pod}"), "{.metadata.uid}")?;
        let bound = [format!("--bound-object-name={pod}"), format!("--bound-object-uid={uid}")];
        let [to_name, to_uid] = &bound;
        self.kubectl(&[
            "create",
            "token",
            name,
            "--namespace",
            namespace,
            "--bound-object-kind=Pod",
            to_name,
            to_uid,
        ])
    }
}

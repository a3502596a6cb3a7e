//! Real `KubeVirt` on a cluster: its operator, its custom resource, and waiting for it.

use crate::api::Access;
use crate::parts::testbed_sources;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// About 60 s of it are `KubeVirt`'s own phases and probes.
const DEPLOYED: Duration = Duration::from_mins(15);

/// Installs the operator and the custom resource. `configuration` is merged into `spec.configuration`, for example
/// `{"memBalloonStatsPeriod": 10}` or `{"developerConfiguration": {"memoryOvercommit": 150}}`.
pub(super) fn install(admin: &Access, configuration: &Value) -> Result<()> {
    for name in ["kubevirt-crd.yaml", "kubevirt-operator.yaml"] {
        let path = testbed_sources().join("manifests").join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        admin.apply(&text)?;
    }
    admin.wait_established("kubevirts.kubevirt.io")?;
    admin.apply(&custom_resource(configuration).to_string())?;
    Ok(())
}

/// Waits until `KubeVirt` says that it is deployed.
pub(super) fn wait_deployed(admin: &Access) -> Result<()> {
    let waited = admin.wait_field("kubevirt", "kubevirt/kubevirt", "{.status.phase}", DEPLOYED, |phase| {
        phase == "Deployed"
    });
    waited.map(|_| ()).with_context(|| {
        let pods = admin.kubectl(&["get", "pods", "--all-namespaces", "--output=wide"]);
        let events = admin.kubectl(&["get", "events", "--namespace=kubevirt", "--sort-by=.lastTimestamp"]);
        format!("pods:\n{}\nevents:\n{}", pods.unwrap_or_default(), events.unwrap_or_default())
    })
}

fn custom_resource(configuration: &Value) -> Value {
    let mut merged = json!({
        "imagePullPolicy": "IfNotPresent",
        // The machine's KVM cannot be relied on: guests run under TCG.
        "developerConfiguration": { "useEmulation": true },
    });
    merge(&mut merged, configuration);
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": { "name": "kubevirt", "namespace": "kubevirt" },
        "spec": {
            "imagePullPolicy": "IfNotPresent",
            "infra": { "replicas": 1 },
            "workloadUpdateStrategy": { "workloadUpdateMethods": ["LiveMigrate"] },
            "configuration": merged,
            "customizeComponents": { "patches": COMPONENTS.map(probe_at_once) },
        },
    })
}

/// Kind and name of what `KubeVirt` deploys; the container bears the same name.
const COMPONENTS: [(&str, &str); 3] =
    [("Deployment", "virt-api"), ("Deployment", "virt-controller"), ("DaemonSet", "virt-handler")];

/// Components are first asked for readiness after 15 s, then every 10 or 20 s; this asks every second from the start.
fn probe_at_once((kind, name): (&str, &str)) -> Value {
    let probe = json!({ "initialDelaySeconds": 1, "periodSeconds": 1, "failureThreshold": 60 });
    let containers = json!([{ "name": name, "readinessProbe": probe }]);
    let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
    json!({ "resourceType": kind, "resourceName": name, "type": "strategic", "patch": patch.to_string() })
}

/// Objects are merged, everything else replaces.
pub(super) fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_merged_into_the_configuration() {
        let resource = custom_resource(&json!({ "developerConfiguration": { "memoryOvercommit": 150 } }));
        let developer = resource.pointer("/spec/configuration/developerConfiguration").unwrap();
        assert_eq!(developer, &json!({ "useEmulation": true, "memoryOvercommit": 150 }));
    }
}

//! Virtual machines on a cluster: made, awaited, looked into.

use super::Cluster;
use crate::guest_image::GuestImage;
use crate::machine;
use crate::parts::{GUEST_IMAGE_NAME, GUEST_INITRD_PATH, GUEST_KERNEL_PATH};
use crate::wait::until;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Label that leads from a launcher's pod to its VMI: the VMI's uid.
const CREATED_BY: &str = "kubevirt.io/created-by";

/// A `VirtualMachine` to be made: one core, no network, no disk, the test guests' kernel.
#[derive(Clone, Debug)]
pub struct VmSpec {
    /// Name of the `VirtualMachine` and its VMI.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Labels of the VMI.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the VMI.
    pub annotations: BTreeMap<String, String>,
    /// Memory that the guest sees, in MiB.
    pub memory_mib: u64,
    /// Memory request of the guest in MiB; `KubeVirt` derives it from the guest's memory where none is given.
    pub request_mib: Option<u64>,
    /// What the guest does, in the words of its kernel command line: `idle`, `busy:300:50`, …
    pub load: String,
    /// Merged into the VMI template's `spec`, for what has no field here.
    pub extra: Value,
}

impl VmSpec {
    /// An idle guest in the namespace `default`.
    pub fn new(name: &str, memory_mib: u64) -> Self {
        Self {
            name: name.into(),
            namespace: "default".into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            memory_mib,
            request_mib: None,
            load: "idle".into(),
            extra: json!({}),
        }
    }

    /// In another namespace, which must exist.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// With this load.
    #[must_use]
    pub fn load(mut self, load: impl std::fmt::Display) -> Self {
        self.load = load.to_string();
        self
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// With an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// With a memory request of its own.
    #[must_use]
    pub fn request_mib(mut self, mib: u64) -> Self {
        self.request_mib = Some(mib);
        self
    }

    /// With more in the VMI template's `spec`.
    #[must_use]
    pub fn extra(mut self, spec: Value) -> Self {
        self.extra = spec;
        self
    }

    /// The manifest.
    pub fn manifest(&self) -> Value {
        let mut spec = json!({
            "terminationGracePeriodSeconds": 0,
            "domain": {
                "cpu": { "cores": 1 },
                "memory": { "guest": format!("{}Mi", self.memory_mib) },
                "devices": { "autoattachPodInterface": false, "autoattachGraphicsDevice": false },
                "firmware": { "kernelBoot": {
                    "kernelArgs": format!(
                        "{} seed={}/{} load={}",
                        GuestImage::KERNEL_ARGS, self.namespace, self.name, self.load
                    ),
                    "container": {
                        "image": GUEST_IMAGE_NAME,
                        "imagePullPolicy": "IfNotPresent",
                        "kernelPath": GUEST_KERNEL_PATH,
                        "initrdPath": GUEST_INITRD_PATH,
                    },
                } },
            },
        });
        if let Some(mib) = self.request_mib {
            super::kubevirt::merge(
                &mut spec,
                &json!({ "domain": { "resources": { "requests": { "memory": format!("{mib}Mi") } } } }),
            );
        }
        super::kubevirt::merge(&mut spec, &self.extra);
        json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": {
                "runStrategy": "Always",
                "template": { "metadata": { "labels": self.labels, "annotations": self.annotations }, "spec": spec },
            },
        })
    }
}

/// Where a running VMI's processes are.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// Name of the launcher's pod.
    pub pod: String,
    /// Uid of the launcher's pod.
    pub pod_uid: String,
    /// The pod's virtqemud, as the machine numbers it.
    pub virtqemud_pid: u32,
    /// The guest's QEMU, as the machine numbers it.
    pub qemu_pid: u32,
}

impl Launcher {
    /// The launcher's libvirt, as root of the machine reaches it.
    pub fn uri(&self) -> String {
        format!("qemu+unix:///session?socket=/proc/{}/root/run/libvirt/virtqemud-sock", self.virtqemud_pid)
    }
}

impl Cluster {
    /// Makes a `VirtualMachine`, which starts at once.
    pub fn create_vm(&self, vm: &VmSpec) -> Result<()> {
        // Right after Deployed the webhooks may not be reachable yet.
        let limit = Duration::from_mins(3);
        until(limit, format!("VM {}", vm.name), || self.apply(&vm.manifest().to_string()))?;
        Ok(())
    }

    /// Waits until the guest runs and has booted (its load program has written to the console).
    pub fn wait_vm_booted(&self, namespace: &str, name: &str, limit: Duration) -> Result<()> {
        self.wait_vm_phase(namespace, name, "Running", limit)?;
        until(limit, format!("boot of {namespace}/{name}"), || {
            let console = self.vm_console(namespace, name).map_err(|error| format!("{error:#}"))?;
            if console.contains("LOAD") { Ok(()) } else { Err(format!("console: {console:?}")) }
        })
    }

    /// Waits for a phase of the VMI.
    pub fn wait_vm_phase(&self, namespace: &str, name: &str, phase: &str, limit: Duration) -> Result<()> {
        let waited = self
            .wait_field(namespace, &format!("vmi/{name}"), "{.status.phase}", limit, |seen| seen == phase);
        waited.map(|_| ()).with_context(|| {
            self.kubectl(&["describe", "vmi,pods", "--namespace", namespace]).unwrap_or_default()
        })
    }

    /// What the guest has written to its serial console.
    pub fn vm_console(&self, namespace: &str, name: &str) -> Result<String> {
        let pod = self.launcher_pod(namespace, name)?;
        self.kubectl(&["logs", &pod, "--namespace", namespace, "--container=guest-console-log"])
    }

    /// Deletes a VM and waits until it is gone.
    pub fn delete_vm(&self, namespace: &str, name: &str) -> Result<()> {
        self.kubectl(&["delete", "vm", name, "--namespace", namespace, "--wait", "--timeout=300s"])?;
        self.kubectl(&[
            "wait",
            &format!("vmi/{name}"),
            "--namespace",
            namespace,
            "--for=delete",
            "--timeout=300s",
        ])
        .map(|_| ())
    }

    /// Name of the pod in which the VMI runs.
    pub fn launcher_pod(&self, namespace: &str, name: &str) -> Result<String> {
        let uid = self.field(namespace, &format!("vmi/{name}"), "{.metadata.uid}")?;
        let selector = format!("--selector={CREATED_BY}={uid}");
        let listed = self.kubectl(&[
            "get",
            "pods",
            "--namespace",
            namespace,
            &selector,
            "--field-selector=status.phase=Running",
            "--output=jsonpath={.items[0].metadata.name}",
        ])?;
        anyhow::ensure!(!listed.is_empty(), "VMI {namespace}/{name} has no running launcher");
        Ok(listed)
    }

    /// Finds the processes of a running VMI.
    pub fn launcher(&self, namespace: &str, name: &str) -> Result<Launcher> {
        let pod = self.launcher_pod(namespace, name)?;
        let pod_uid = self.field(namespace, &format!("pod/{pod}"), "{.metadata.uid}")?;
        let members = processes_of_pod(&pod_uid)?;
        let find = |wanted: &str| {
            let found = members.iter().find(|(_, comm)| comm.starts_with(wanted));
            found.map(|(pid, _)| *pid).with_context(|| format!("pod {pod} has no {wanted}: {members:?}"))
        };
        Ok(Launcher { virtqemud_pid: find("virtqemud")?, qemu_pid: find("qemu-")?, pod, pod_uid })
    }
}

/// Processes whose cgroup belongs to this pod, with their names.
fn processes_of_pod(uid: &str) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroup.contains(uid) && machine::is_running(pid) {
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push((pid, comm.trim().to_owned()));
        }
    }
    Ok(found)
}

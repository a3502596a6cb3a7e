//! One node: PID and mount namespaces of its own in which containerd and the kubelet run.
//!
//! `KubeVirt`'s handler enters the mount namespace of process 1, and pods with hostPID see every process; with a
//! process 1 of its own a node is closed, and ends whole with that process.

use super::cgroups::NodeCgroups;
use super::fabric::{BRIDGE, Fabric};
use crate::api::ControlPlane;
use crate::parts::{CONTAINERD, KUBERNETES, PAUSE_IMAGE_NAME, command};
use crate::process::{Launch, Process};
use crate::session::Session;
use crate::wait::until;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Process 1 of a node: it only reaps. A shell reaps whatever is its child, adopted ones too; without any child `wait`
/// returns at once, hence the pause.
const REAPER: &str = "while :; do wait; sleep 1; done";

/// Folders of the machine that a node has for itself: what `KubeVirt`, the kubelet, CNI and containerd hard-code.
const OWN_FOLDERS: &[&str] = &["/var/lib", "/var/log"];

/// Folders that must exist on the node: `KubeVirt`'s, by hostPath, and CNI's.
const FOLDERS: &[&str] = &[
    "/run/containerd",
    "/run/kubevirt",
    "/run/kubevirt-private",
    "/run/kubevirt-libvirt-runtimes",
    "/run/lock",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/lib/kubevirt-node-labeller",
    "/var/log/pods",
];

/// How long a daemon may take to serve on a machine that does other things too.
const READY: Duration = Duration::from_mins(3);

/// A running node.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    dir: PathBuf,
    // Dropped in this order: what runs on the node, its namespaces, its cgroups.
    daemons: Vec<Process>,
    holder: Process,
    cgroups: NodeCgroups,
    init: u32,
}

impl Node {
    /// Makes the node's namespaces and starts containerd; the images are there when it returns.
    pub(super) fn start(name: &str, number: u8, fabric: &Fabric) -> Result<Self> {
        let session = Session::shared()?;
        let dir = session.fresh_dir(name)?;
        let root = dir.file_name().and_then(|last| last.to_str()).context("the node's folder has no name")?;
        let cgroups = NodeCgroups::create(&format!("overcommit-{}-{root}", std::process::id()))?;
        let hold = Launch::new(format!("{name}-init"), "nsenter")
            .arg(format!("--net={}", fabric.netns().display()))
            .args(["--", "unshare", "--pid", "--mount", "--fork", "--kill-child=SIGKILL", "--mount-proc"])
            .args(["--propagation", "private", "--", "sh", "-c", REAPER]);
        let holder = session.spawn(hold)?;
        let init = holder.ready(READY, "process 1", || first_child(holder.pid()))?;
        let mut node = Self { name: name.to_owned(), dir, daemons: Vec::new(), holder, cgroups, init };
        node.furnish()?;
        // The first address on the bridge is the gateway's.
        fabric.add_bridge_address(number + 1)?;
        node.start_containerd(fabric)?;
        Ok(node)
    }

    /// The node's name in the cluster.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Process 1 of the node, as the machine numbers it.
    pub(super) fn init_pid(&self) -> u32 {
        self.init
    }

    /// A command that runs as a process of this node.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        command_on(self.init, program)
    }

    /// Ends the node; says what could not be cleaned up.
    pub(super) fn stop(self) -> Result<()> {
        drop(self.daemons);
        drop(self.holder);
        self.cgroups.remove()
    }

    fn furnish(&self) -> Result<()> {
        let mut script = vec![
            "set -e".to_owned(),
            "mount --make-rshared /".to_owned(),
            "mount -t tmpfs -o mode=755,size=256m tmpfs /run".to_owned(),
        ];
        for folder in OWN_FOLDERS {
            let own = self.dir.join(folder.trim_start_matches('/').replace('/', "-"));
            fs::create_dir(&own).with_context(|| own.display().to_string())?;
            script.push(format!("mount --bind {} {folder}", own.display()));
        }
        script.push(format!("mkdir -p {}", FOLDERS.join(" ")));
        command::output(self.command("sh").args(["-c", &script.join("\n")])).map(|_| ())
    }

    fn launch(&self, name: &str, program: &Path) -> Launch {
        // Enters and forks, since a process stays in the PID namespace that it was born in.
        Launch::new(format!("{}-{name}", self.name), "nsenter")
            .args(entering(self.init))
            .arg("--")
            .arg(program)
    }

    fn start_containerd(&mut self, fabric: &Fabric) -> Result<()> {
        let commands = CONTAINERD.ensure()?;
        fs::create_dir(self.dir.join("cni"))?;
        fs::write(self.dir.join("cni/10-pods.conflist"), self.network(fabric).to_string())?;
        let config = self.dir.join("containerd.toml");
        fs::write(&config, containerd_config(&self.dir))?;
        super::store::seed(&self.dir.join("containerd"))?;
        let path = std::env::var("PATH").unwrap_or_default();
        let launch = self
            .launch("containerd", &commands.join("containerd"))
            .arg("--config")
            .arg(&config)
            // Where it looks for its shim, and for runc.
            .env("PATH", format!("{}:/usr/sbin:/sbin:{path}", commands.display()));
        let daemon = Session::shared()?.spawn(launch)?;
        daemon.ready(READY, "an answer", || {
            command::output(self.command(commands.join("ctr")).arg("version"))
        })?;
        self.daemons.push(daemon);
        Ok(())
    }

    /// Host-local addresses on the bridge; the nodes share the subnet and therefore the list of what is given out.
    fn network(&self, fabric: &Fabric) -> serde_json::Value {
        let given = self.dir.with_file_name("pod-addresses");
        serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [{
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                "hairpinMode": true,
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": given,
                    "routes": [{ "dst": "0.0.0.0/0" }],
                    "ranges": [[{
                        "subnet": fabric.pod_subnet(),
                        "rangeStart": fabric.on_bridge(20),
                        "gateway": fabric.on_bridge(1),
                    }]],
                },
            }],
        })
    }

    /// Starts the kubelet; the node registers itself.
    pub(super) fn start_kubelet(&mut self, number: u8, fabric: &Fabric, plane: &ControlPlane) -> Result<()> {
        let user = format!("system:node:{}", self.name);
        let kubeconfig = plane.component_kubeconfig(&self.name, &user, Some("system:nodes"))?;
        let config = self.dir.join("kubelet.json");
        fs::write(&config, self.kubelet_config(number, &plane.pki().authority()).to_string())?;
        let kubelet = KUBERNETES.file("kubelet")?;
        let launch = self
            .launch("kubelet", &kubelet)
            .arg(format!("--config={}", config.display()))
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg("--root-dir=/var/lib/kubelet")
            .arg(format!("--cert-dir={}", self.dir.join("kubelet-pki").display()))
            .arg(format!("--hostname-override={}", self.name))
            .arg(format!("--node-ip={}", fabric.on_bridge(number + 1)));
        self.daemons.push(Session::shared()?.spawn(launch)?);
        Ok(())
    }

    fn kubelet_config(&self, number: u8, authority: &Path) -> serde_json::Value {
        serde_json::json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": false,
            "failSwapOn": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroups.root(),
            "cgroupsPerQOS": true,
            "enforceNodeAllocatable": [],
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": authority },
            },
            "authorization": { "mode": "Webhook" },
            // The kubelets of one cluster share a network namespace.
            "port": 10250 + u32::from(number) * 10,
            "healthzPort": 0,
            "readOnlyPort": 0,
            "registerNode": true,
            // Tests make memory short on purpose; the kubelet is not to step in before the product does.
            "evictionHard": { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
            // cAdvisor does not find the device below the node's folders.
            "localStorageCapacityIsolation": false,
            "imageGCHighThresholdPercent": 100,
            "volumePluginDir": self.dir.join("volume-plugins"),
            "syncFrequency": "10s",
            "fileCheckFrequency": "0s",
            "nodeStatusUpdateFrequency": "5s",
            "shutdownGracePeriod": "0s",
        })
    }
}

/// Arguments with which nsenter enters a node.
fn entering(init: u32) -> Vec<String> {
    vec!["--target".into(), init.to_string(), "--mount".into(), "--pid".into(), "--net".into()]
}

/// A command that runs as a process of the node with this process 1.
pub(super) fn command_on(init: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.args(entering(init)).arg("--").arg(program);
    command
}

/// Process 1 of the namespace that this `unshare` made, once it is the shell.
fn first_child(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let child: u32 = text.split_whitespace().next()?.parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    ["sh", "dash", "bash", "sleep"].contains(&name.trim()).then_some(child)
}

fn containerd_config(dir: &Path) -> String {
    format!(
        r#"version = 3
root = "{dir}/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE_IMAGE_NAME}"

[plugins.'io.containerd.cri.v1.runtime']
  # This machine may lack the right to lower oom_score_adj; runc would die of it.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{dir}/cni"
"#,
        dir = dir.display()
    )
}

/// Waits for the node to be Ready, and gives it what the test bed's kubelet cannot find out by itself.
pub(super) fn admit(admin: &crate::api::Access, name: &str) -> Result<()> {
    let ready = r#"{.status.conditions[?(@.type=="Ready")].status}"#;
    until(READY, format!("node {name}"), || admin.field("", &format!("node/{name}"), "{.metadata.name}"))?;
    // virt-operator's job and KubeVirt's components want a control plane node.
    admin.kubectl(&["label", "--overwrite", "node", name, "node-role.kubernetes.io/control-plane="])?;
    // Launchers request ephemeral storage, which a kubelet without storage isolation does not announce.
    let storage =
        r#"{"status":{"capacity":{"ephemeral-storage":"50Gi"},"allocatable":{"ephemeral-storage":"50Gi"}}}"#;
    admin.kubectl(&["patch", "node", name, "--subresource=status", "--type=merge", "--patch", storage])?;
    admin.wait_field("", &format!("node/{name}"), ready, READY, |status| status == "True")?;
    Ok(())
}

//! The node tier works: tests of the product stand elsewhere.

use overcommit_tests::images::{OciImage, Tree};
use overcommit_tests::machine;
use overcommit_tests::node::{Cluster, ClusterSpec, Detached, VmSpec};
use overcommit_tests::wait::until;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys::{VIR_DOMAIN_AFFECT_LIVE, VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON};

const MIB_IN_KIB: u64 = 1024;
const BOOT: Duration = Duration::from_mins(6);
const SOON: Duration = Duration::from_mins(3);

fn actual_kib(domain: &Domain) -> Option<u64> {
    let stats = domain.memory_stats(0).ok()?;
    stats.iter().find(|stat| stat.tag == VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON).map(|stat| stat.val)
}

#[test]
fn a_vm_boots_and_its_balloon_follows_from_the_host() {
    let cluster = Cluster::shared().unwrap();
    let vm = VmSpec::new("ballooned", 256).label("tier", "node").annotation("overcommit.dev/note", "kept");
    cluster.create_vm(&vm).unwrap();
    cluster.wait_vm_booted("default", "ballooned", BOOT).unwrap();
    assert_eq!(cluster.field("default", "vmi/ballooned", "{.metadata.labels.tier}").unwrap(), "node");

    let launcher = cluster.launcher("default", "ballooned").unwrap();
    let connection = Connect::open(Some(&launcher.uri())).unwrap();
    let domain = connection.lookup_domain_by_name("default_ballooned").unwrap();
    domain.set_memory_flags(200 * MIB_IN_KIB, VIR_DOMAIN_AFFECT_LIVE).unwrap();
    until(SOON, "a balloon of 200 MiB", || match actual_kib(&domain) {
        Some(kib) if kib == 200 * MIB_IN_KIB => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    drop((domain, connection));
    cluster.delete_vm("default", "ballooned").unwrap();
}

#[test]
fn an_imported_image_runs_in_a_pod_that_reaches_the_api_server() {
    let cluster = Cluster::shared().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let tree = Tree::new().unwrap();
    tree.copy(Path::new("/bin/busybox"), "bin/busybox", 0o755).unwrap();
    let layer = tree.pack(&scratch.path().join("layer.tar")).unwrap();
    let image = OciImage {
        name: "localhost/probe:1".into(),
        user: "1000".into(),
        entrypoint: ["/bin/busybox", "sh", "-c", "busybox nc -w 5 10.97.0.1 443 < /dev/null"]
            .map(String::from)
            .to_vec(),
        layers: vec![layer],
    };
    let archive = scratch.path().join("probe.tar");
    image.write(&archive).unwrap();
    cluster.import_image(&archive).unwrap();
    cluster
        .apply(
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"probe","namespace":"default"},
                "spec":{"restartPolicy":"Never","containers":[{"name":"probe","image":"localhost/probe:1",
                "imagePullPolicy":"Never","securityContext":{"runAsNonRoot":true}}]}}"#,
        )
        .unwrap();
    let phase = |seen: &str| seen == "Succeeded" || seen == "Failed";
    let ended = cluster.wait_field("default", "pod/probe", "{.status.phase}", SOON, phase).unwrap();
    assert_eq!(ended, "Succeeded", "{}", cluster.kubectl(&["describe", "pod", "probe"]).unwrap());
    cluster.kubectl(&["delete", "pod", "probe"]).unwrap();
}

#[test]
fn a_pod_with_host_pid_sees_its_node_and_not_the_machine() {
    let cluster = Cluster::shared().unwrap();
    let listed = cluster.on_node("node1", "ps").unwrap().args(["-e", "-o", "comm="]).output().unwrap();
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(names.contains("kubelet") && names.contains("containerd"), "{names}");
    assert!(!names.contains("kube-apiserver") && !names.contains("cargo"), "{names}");
}

#[test]
fn logs_exec_and_events_work() {
    let cluster = Cluster::shared().unwrap();
    let pods = "--selector=kubevirt.io=virt-api";
    let name = cluster.kubectl(&["get", "pods", "--namespace=kubevirt", pods, "--output=name"]).unwrap();
    let name = name.trim();
    assert!(!cluster.kubectl(&["logs", "--namespace=kubevirt", name, "--tail=1"]).unwrap().is_empty());
    let said = cluster.kubectl(&["exec", "--namespace=kubevirt", name, "--", "echo", "hello"]).unwrap();
    assert_eq!(said.trim(), "hello");
    assert!(cluster.kubectl(&["get", "events", "--all-namespaces"]).unwrap().contains("Scheduled"));
}

#[test]
fn a_cluster_whose_holder_is_killed_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state.json");
    let spec = serde_json::to_string(&ClusterSpec { nodes: 1, kubevirt: None }).unwrap();
    let mut holder = Command::new(env!("CARGO_BIN_EXE_testbed"));
    holder.arg("hold").arg(&state).arg(spec).process_group(0).stdin(Stdio::null());
    let mut holder = holder.spawn().unwrap();
    let started = until(Duration::from_mins(10), "the cluster", || match holder.try_wait() {
        Ok(None) => Detached::read(&state).map_err(|error| error.to_string())?.ok_or("not up yet".to_owned()),
        ended => panic!("the holder ended: {ended:?}"),
    })
    .unwrap();
    let node = started.nodes.first().unwrap().init_pid;
    assert!(machine::is_running(node) && !cgroups_of(holder.id()).is_empty());
    let (link, index) = link_of(&started).unwrap();

    holder.kill().unwrap();
    holder.wait().unwrap();
    until(SOON, "the end of the node", || !machine::is_running(node)).unwrap();
    let folder = started.session_dir().unwrap();
    until(SOON, "the end of the temp folder", || !folder.exists()).unwrap();
    until(SOON, "the end of the cgroups", || cgroups_of(holder.id()).is_empty()).unwrap();
    until(SOON, "the end of the link", || {
        std::fs::read_to_string(format!("/sys/class/net/{link}/ifindex")).map_or(true, |now| now != index)
    })
    .unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(folder.to_str().unwrap()), "{mounts}");
}

/// The cluster's end of the cable in the machine: its name, from the API server's address 10.88.N.2, and its index,
/// since a later cluster may take the name.
fn link_of(cluster: &Detached) -> Option<(String, String)> {
    let config = std::fs::read_to_string(&cluster.kubeconfig).ok()?;
    let number = config.split("https://10.88.").nth(1)?.split('.').next()?;
    let name = format!("ovc-net{number}");
    let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?;
    Some((name, index))
}

/// Cgroups of a test bed's process, in every hierarchy.
fn cgroups_of(pid: u32) -> Vec<PathBuf> {
    let prefix = format!("overcommit-{pid}-");
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let below = hierarchies.filter_map(|entry| std::fs::read_dir(entry.path()).ok()).flatten().flatten();
    below
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect()
}

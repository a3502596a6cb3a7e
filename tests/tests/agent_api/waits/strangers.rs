//! A tenant's processes that look like a launcher and its guest. Real processes, in a cgroup that bears a pod's name.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use overcommit_tests::process::{Launch, Process};
use overcommit_tests::session::Session;
use overcommit_tests::wait::until;
use serde_json::{Value, json};

use crate::bench::{Bench, SOON};

const POD: &str = "4cd1b2a0-0a39-4f5e-9d11-3c4a2d9b7e10";
const UUID: &str = "5a9f9c3e-1111-2222-3333-444444444444";
/// Of a container that requested a hundredth of the node's memory.
const SCORE: &str = "990";

/// What a tenant runs in its pod, whose cgroup ends with it.
struct Tenant {
    processes: Vec<Process>,
    pod: PathBuf,
}

impl Tenant {
    /// Claims to be another's guest, of 100 TiB, and requested a hundredth of the node.
    fn start(dir: &Path) -> Self {
        let pod = memory_cgroup().join("kubepods/burstable").join(format!("pod{POD}"));
        fs::create_dir_all(&pod).unwrap();
        let mut tenant = Self { processes: Vec::new(), pod };
        tenant.run(dir, "virt-launcher", &[]);
        let claims = ["-name", "guest=shop_victim", "-m", "104857600M", "-uuid", UUID];
        tenant.run(dir, "qemu-system-x86", &claims);
        tenant
    }

    /// Runs a program of this name, which enters the pod and waits.
    fn run(&mut self, dir: &Path, name: &str, arguments: &[&str]) {
        let script = dir.join(name);
        let enter = format!(
            "#!/bin/sh\necho $$ > \"$POD\"/cgroup.procs; echo {SCORE} > /proc/$$/oom_score_adj; read -r line\n"
        );
        fs::write(&script, enter).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let launch = Launch::new(name, script.to_str().unwrap()).args(arguments.iter().copied());
        let launch = launch.env("POD", self.pod.to_str().unwrap()).piped_stdin();
        let process = Session::shared().unwrap().spawn(launch).unwrap();
        // Before, it is somebody else's process, or one of a pod that requested something else.
        let score = format!("/proc/{}/oom_score_adj", process.pid());
        let entered = || fs::read_to_string(&score).is_ok_and(|told| told.trim() == SCORE);
        process.ready(SOON, "its score", entered).unwrap();
        self.processes.push(process);
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.processes.clear();
        let levels: Vec<&Path> = self.pod.ancestors().take(3).collect();
        // What a process held goes with a delay.
        let empty = || levels.iter().filter(|level| level.exists()).try_for_each(fs::remove_dir);
        drop(until(SOON, "the end of the pod's cgroup", empty));
    }
}

/// Where this very process's memory is counted.
fn memory_cgroup() -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let of = |controller: &str| {
        text.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(controller).map(str::to_owned))
    };
    let v1 = of("memory:").map(|path| format!("/sys/fs/cgroup/memory{path}"));
    PathBuf::from(v1.or_else(|| of(":").map(|path| format!("/sys/fs/cgroup{path}"))).unwrap())
}

#[test]
fn a_pod_that_nobody_listed_costs_what_it_requested_and_bears_no_name() {
    let bench = Bench::running();
    let _tenant = Tenant::start(&bench.dir);
    // Its launcher is found first; what it claims comes with what pretends to be a QEMU.
    let claims = |report: &Value| report["unlisted"]["charge"].as_u64().is_some_and(|charge| charge > 0);
    let report =
        bench.wait_report("the unlisted pod", |report| report["unlisted"]["pods"] == 1 && claims(report));
    let total = report["ledger"]["total"].as_u64().unwrap();
    let charge = report["unlisted"]["charge"].as_u64().unwrap();
    assert!(charge <= total / 100, "{charge} of {total}");
    assert_eq!((&report["guests"], &report["ledger"]["promised"]), (&json!([]), &json!(0)));
    assert_eq!(report["troubles"], json!([]), "it was not even tried to be reached");
    let metrics = bench.get("/metrics").unwrap().1;
    assert!(metrics.contains("overcommit_unlisted_pods 1\n") && !metrics.contains("victim"), "{metrics}");

    bench.order_for("two", &json!([{"namespace": "shop", "name": "own", "uid": "u", "pods": [POD]}]));
    let own = |report: &Value| {
        let (guest, others) = (&report["guests"][0], &report["unlisted"]["pods"]);
        guest["name"]["name"] == "own" && others == &json!(0)
    };
    let report = bench.wait_report("the guest, and nobody else", own);
    assert!(report["guests"][0]["charge"].as_u64().unwrap() >= total, "a listed guest may touch all it has");
    assert!(!report.to_string().contains("victim"), "{report}");
}

//! Commands from the Go module proxy. Each folder `tests/testbed/NAME` is a Go module without Go code: its `tool`
//! lines say which commands, its `go.mod` and `go.sum` pin every version.

use super::{Part, Workshop, command, source_inputs, testbed_sources};
use anyhow::Result;
use std::process::Command;
use std::time::Duration;

/// Version of Kubernetes that `testbed/kubernetes/go.mod` pins.
pub const KUBERNETES_VERSION: &str = "v1.36.3";
/// Version of `KubeVirt` that `testbed/kubevirt/go.mod` pins.
pub const KUBEVIRT_VERSION: &str = "v1.7.0";

/// kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kubectl.
pub static KUBERNETES: Part = Part {
    name: "kubernetes",
    cost: Duration::from_secs(250),
    needs: &[],
    inputs: || module_inputs("kubernetes/go.mod", "kubernetes/go.sum", KUBERNETES_VERSION),
    // Without a version the parts report v0.0.0 and refuse each other.
    build: |shop| {
        let set = format!("-X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}");
        build(shop, "kubernetes", &set, false)
    },
};

/// containerd, its runc shim, ctr.
pub static CONTAINERD: Part = Part {
    name: "containerd",
    cost: Duration::from_secs(95),
    needs: &[],
    inputs: || module_inputs("containerd/go.mod", "containerd/go.sum", ""),
    build: |shop| build(shop, "containerd", "", false),
};

/// helm, version 4.
pub static HELM: Part = Part {
    name: "helm",
    cost: Duration::from_secs(130),
    needs: &[],
    inputs: || module_inputs("helm/go.mod", "helm/go.sum", ""),
    build: |shop| build(shop, "helm", "", false),
};

/// virt-operator, virt-api, virt-controller, virt-handler, virt-launcher and the small commands in its image.
pub static KUBEVIRT: Part = Part {
    name: "kubevirt",
    cost: Duration::from_secs(170),
    needs: &[],
    inputs: || module_inputs("kubevirt/go.mod", "kubevirt/go.sum", KUBEVIRT_VERSION),
    build: |shop| {
        // virt-operator compares these with what its deployments carry.
        let version = "kubevirt.io/client-go/version";
        let set = format!(
            "-X {version}.gitVersion={KUBEVIRT_VERSION} -X {version}.gitCommit={KUBEVIRT_VERSION} -X {version}.gitTreeState=clean"
        );
        // virt-launcher and virt-handler bind libvirt's C library.
        build(shop, "kubevirt", &set, true)
    },
};

fn module_inputs(go_mod: &str, go_sum: &str, version: &str) -> Result<Vec<Vec<u8>>> {
    let mut inputs = source_inputs(&[go_mod, go_sum])?;
    inputs.push(version.into());
    Ok(inputs)
}

fn build(shop: &Workshop, module: &str, set: &str, cgo: bool) -> Result<()> {
    let mut bin = shop.out.as_os_str().to_owned();
    bin.push("/");
    let mut go = Command::new("go");
    go.current_dir(testbed_sources().join(module))
        .env("CGO_ENABLED", if cgo { "1" } else { "0" })
        // The committed go.mod and go.sum decide, not what an environment prefers.
        .env("GOFLAGS", "-buildvcs=false")
        .args(["build", "-mod=readonly", "-ldflags"])
        .arg(format!("-s -w {set}"))
        .arg("-o")
        .arg(bin)
        .arg("tool");
    command::run(&mut go, &shop.log)
}

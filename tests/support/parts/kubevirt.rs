//! The two images that `KubeVirt`'s components run from: Debian's libvirt and QEMU below, `KubeVirt`'s commands above.

use super::{KUBEVIRT, KUBEVIRT_VERSION, Part, TRIXIE, Workshop, command, source_inputs, testbed_sources};
use crate::images::{Layer, OciImage, Tree, write_archive};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Image of virt-handler and virt-launcher, which start as root.
pub const KUBEVIRT_NODE_IMAGE: &str = "localhost/kubevirt/node:v1.7.0";
/// Image of virt-operator, virt-api and virt-controller, which are `runAsNonRoot`.
pub const KUBEVIRT_CONTROL_IMAGE: &str = "localhost/kubevirt/control:v1.7.0";

/// The user `qemu` in `KubeVirt`'s images. Source: kubevirt pkg/util/util.go, `NonRootUID`.
const QEMU: u32 = 107;
/// A user that is not root, as in `KubeVirt`'s own images. Source: kubevirt cmd/virt-operator/BUILD.bazel.
const CONTROL_USER: &str = "1001";

const CONTROL_COMMANDS: &[&str] = &["virt-operator", "virt-api", "virt-controller"];
const NODE_COMMANDS: &[&str] = &[
    "virt-handler",
    "virt-launcher",
    "virt-launcher-monitor",
    "virt-chroot",
    "virt-freezer",
    "virt-probe",
    "virt-tail",
];

/// `kubevirt.tar`: both images in one archive, the lowest layer shared.
pub static KUBEVIRT_IMAGES: Part = Part {
    name: "kubevirt-images",
    cost: Duration::from_secs(20),
    needs: &[&KUBEVIRT, &TRIXIE],
    inputs: || {
        let mut inputs = source_inputs(&[
            "image/container-disk.rs",
            "image/node-labeller.sh",
            "image/virtqemud.sh",
            "image/qemu.conf",
            "image/virtqemud.conf",
        ])?;
        inputs.push(format!("3 {KUBEVIRT_VERSION} {NODE_COMMANDS:?} {CONTROL_COMMANDS:?}").into());
        Ok(inputs)
    },
    build,
};

fn build(shop: &Workshop) -> Result<()> {
    let root = TRIXIE.file("root")?;
    let bin = KUBEVIRT.ensure()?;
    let base = Layer::pack(&root, &shop.scratch.join("base.tar"))?;
    let control = commands(&bin, CONTROL_COMMANDS)?.pack(&shop.scratch.join("control.tar"))?;
    let node = node_tree(&root, &bin, shop)?.pack(&shop.scratch.join("node.tar"))?;
    let control = OciImage {
        name: KUBEVIRT_CONTROL_IMAGE.into(),
        user: CONTROL_USER.into(),
        layers: vec![base.clone(), control],
        ..OciImage::default()
    };
    let node = OciImage { name: KUBEVIRT_NODE_IMAGE.into(), layers: vec![base, node], ..OciImage::default() };
    write_archive(&[control, node], &shop.out.join("kubevirt.tar"))
}

fn commands(bin: &Path, names: &[&str]) -> Result<Tree> {
    let tree = Tree::new()?;
    for name in names {
        tree.copy(&bin.join(name), &format!("usr/bin/{name}"), 0o755)?;
    }
    Ok(tree)
}

fn node_tree(root: &Path, bin: &Path, shop: &Workshop) -> Result<Tree> {
    let source = |name: &str| testbed_sources().join("image").join(name);
    let disk = shop.scratch.join("container-disk");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"]);
    command::run(rustc.arg(&disk).arg(source("container-disk.rs")), &shop.log)?;
    let tree = commands(bin, NODE_COMMANDS)?;
    tree.copy(&disk, "usr/bin/container-disk", 0o755)?
        .copy(&source("node-labeller.sh"), "usr/bin/node-labeller.sh", 0o755)?
        .copy(&source("virtqemud.sh"), "usr/sbin/virtqemud", 0o755)?
        .copy(&root.join("usr/sbin/libvirtd"), "usr/lib/kubevirt/virtqemud", 0o755)?
        .copy(&source("qemu.conf"), "etc/libvirt/qemu.conf", 0o644)?
        .copy(&source("virtqemud.conf"), "etc/libvirt/virtqemud.conf", 0o644)?
        // The launcher binds the port of its own probes.
        .capability("usr/bin/virt-launcher-monitor", "cap_net_bind_service=ep")?
        .file("etc/passwd", with_qemu(&root.join("etc/passwd"), ":107:107::/home/qemu:/bin/sh")?, 0o644)?
        .file("etc/group", with_qemu(&root.join("etc/group"), ":107:")?, 0o644)?
        .dir("home/qemu", 0o700)?
        .owner("home/qemu", QEMU, QEMU)?
        .dir("var/lib/kubevirt-node-labeller", 0o755)?
        .dir("etc/libvirt/hooks", 0o755)?
        // Relative: an absolute link would be followed in the reader's root when reached by /proc/PID/root.
        .link("var/run", "../run")?;
    Ok(tree)
}

/// A passwd or group file in which the number of [`QEMU`] is called `qemu`.
fn with_qemu(file: &Path, rest: &str) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let number = QEMU.to_string();
    let keeps = |line: &&str| !line.starts_with("qemu:") && line.split(':').nth(2) != Some(number.as_str());
    let mut kept = text.lines().filter(keeps).fold(String::new(), |text, line| text + line + "\n");
    kept.push_str("qemu:x");
    kept.push_str(rest);
    kept.push('\n');
    Ok(kept)
}

//! A node's image store. Importing an image costs seconds; so the images of every cluster are imported once, into a
//! store that is kept as a part, and each node starts with a copy that shares the files.

use crate::machine;
use crate::parts::{CONTAINERD, GUEST_IMAGE, KUBEVIRT_IMAGES, PAUSE_IMAGE, Part, Workshop, command};
use crate::process::Launch;
use crate::session::Session;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The folder `containerd`: a containerd root with the sandbox's, `KubeVirt`'s and the guests' images.
pub static IMAGE_STORE: Part = Part {
    name: "image-store",
    cost: Duration::from_secs(30),
    needs: &[&CONTAINERD, &PAUSE_IMAGE, &GUEST_IMAGE, &KUBEVIRT_IMAGES],
    inputs: || Ok(vec![b"1".to_vec()]),
    build,
};

fn build(shop: &Workshop) -> Result<()> {
    let commands = CONTAINERD.ensure()?;
    let root = shop.out.join("containerd");
    let socket = shop.scratch.join("s");
    let config = shop.scratch.join("containerd.toml");
    fs::write(&config, store_config(&root, &shop.scratch))?;
    let launch =
        Launch::new("image-store", commands.join("containerd")).arg("--config").arg(&config).own_mounts();
    let daemon = Session::shared()?.spawn(launch)?;
    let ctr = |args: &[&str]| {
        let mut ctr = Command::new(commands.join("ctr"));
        ctr.arg("--address").arg(&socket).args(["--namespace", "k8s.io"]).args(args);
        command::output(&mut ctr)
    };
    daemon.ready(Duration::from_mins(3), "an answer", || ctr(&["version"]))?;
    let archives = [
        PAUSE_IMAGE.file("pause.tar")?,
        GUEST_IMAGE.file("guest.tar")?,
        KUBEVIRT_IMAGES.file("kubevirt.tar")?,
    ];
    for archive in &archives {
        let path = archive.to_str().context("the cache's path is not UTF-8")?;
        ctr(&["images", "import", "--snapshotter", "overlayfs", path])?;
    }
    tag_by_digest(&ctr)?;
    daemon.terminate(Duration::from_mins(2))?;
    Ok(())
}

/// Only the image store: no CRI, no tasks.
fn store_config(root: &Path, scratch: &Path) -> String {
    format!(
        "version = 3
root = '{root}'
state = '{scratch}/state'
disabled_plugins = [
  'io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime',
]
[grpc]
  address = '{scratch}/s'
[ttrpc]
  address = '{scratch}/t'
",
        root = root.display(),
        scratch = scratch.display()
    )
}

/// The target of a live migration asks for the guest's image by its digest.
fn tag_by_digest(ctr: &dyn Fn(&[&str]) -> Result<String>) -> Result<()> {
    let listed = ctr(&["images", "list"])?;
    for line in listed.lines().skip(1) {
        let mut columns = line.split_whitespace();
        if let (Some(name), Some(digest)) = (columns.next(), columns.nth(1)) {
            let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository);
            ctr(&["images", "tag", "--force", name, &format!("{repository}@{digest}")])?;
        }
    }
    Ok(())
}

/// Fills `root` from the store: file contents are shared by hard links where the disk allows it (they are never
/// written again), the databases are copied.
pub(super) fn seed(root: &Path) -> Result<()> {
    machine::require("cp", "coreutils")?;
    let store = IMAGE_STORE.file("containerd")?;
    let mut link = Command::new("cp");
    link.args(["--archive", "--link", "--no-target-directory"]).arg(&store).arg(root);
    if command::output(&mut link).is_err() {
        let _ = fs::remove_dir_all(root);
        let mut copy = Command::new("cp");
        command::output(copy.args(["--archive", "--no-target-directory"]).arg(&store).arg(root))?;
    }
    unshare_databases(root)
}

/// A database that is linked would be written for every cluster at once.
fn unshare_databases(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        // Snapshots hold images' files, which no daemon writes.
        if entry.file_type()?.is_dir() && entry.file_name() != "snapshots" && entry.file_name() != "blobs" {
            unshare_databases(&path)?;
        } else if entry.file_type()?.is_file() && path.extension().is_some_and(|extension| extension == "db")
        {
            let bytes = fs::read(&path)?;
            fs::remove_file(&path)?;
            fs::write(&path, bytes)?;
        }
    }
    Ok(())
}

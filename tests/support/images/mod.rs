//! OCI image archives without a registry: layers from folder trees, one or several images in a tar that
//! `ctr images import` reads.
//!
//! Layers are not compressed: they go from one disk to the same disk. The same inputs give the same bytes.

mod tree;

use crate::parts::command;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use tree::Tree;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer: a tar file whose digest is known.
#[derive(Clone, Debug)]
pub struct Layer {
    tar: PathBuf,
    digest: String,
    size: u64,
}

impl Layer {
    /// Takes a tar file, which must stay where it is until the image is written.
    pub fn from_tar(tar: &Path) -> Result<Self> {
        let sum = command::output(Command::new("sha256sum").arg(tar))?;
        let digest = sum.split_whitespace().next().context("sha256sum printed nothing")?;
        let size = fs::metadata(tar).with_context(|| tar.display().to_string())?.len();
        Ok(Self { tar: tar.to_owned(), digest: format!("sha256:{digest}"), size })
    }

    /// Packs the folder `root` with owners, modes and file capabilities as they are on disk.
    pub fn pack(root: &Path, tar: &Path) -> Result<Self> {
        let mut pack = Command::new("tar");
        pack.args(["--create", "--numeric-owner", "--sort=name", "--mtime=@0", "--format=posix"])
            .args(["--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"])
            .args(["--xattrs", "--xattrs-include=security.capability"])
            .arg("--file")
            .arg(tar)
            .arg("--directory")
            .arg(root)
            .arg(".");
        command::output(&mut pack)?;
        Self::from_tar(tar)
    }
}

/// An image to be: what its config says, and its layers from the lowest up.
#[derive(Clone, Debug, Default)]
pub struct OciImage {
    /// Full name with tag, for example `localhost/agent:1`.
    pub name: String,
    /// User of the image's config: a number, since `runAsNonRoot` accepts no name; empty for root.
    pub user: String,
    /// Entrypoint; empty where the pod gives the command.
    pub entrypoint: Vec<String>,
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
}

impl OciImage {
    /// Writes the image as an OCI archive.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_archive(std::slice::from_ref(self), path)
    }

    fn config(&self) -> Value {
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.digest.as_str()).collect();
        json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "User": self.user,
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })
    }

    fn manifest(&self, config: &Blob) -> Value {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| json!({ "mediaType": LAYER, "digest": layer.digest, "size": layer.size }))
            .collect();
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": config.digest, "size": config.bytes.len() },
            "layers": layers,
        })
    }
}

/// Writes several images into one archive; a layer that they share is in it once.
pub fn write_archive(images: &[OciImage], path: &Path) -> Result<()> {
    let layout = tempfile::Builder::new().prefix("oci-layout-").tempdir()?;
    let blobs = layout.path().join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut links: BTreeMap<&str, &Path> = BTreeMap::new();
    let mut manifests = Vec::new();
    for image in images {
        let config = Blob::of(&image.config())?;
        let manifest = Blob::of(&image.manifest(&config))?;
        config.store(&blobs)?;
        manifest.store(&blobs)?;
        manifests.push(json!({
            "mediaType": MANIFEST,
            "digest": manifest.digest,
            "size": manifest.bytes.len(),
            "platform": { "os": "linux", "architecture": "amd64" },
            "annotations": { "io.containerd.image.name": image.name },
        }));
        links.extend(image.layers.iter().map(|layer| (layer.digest.as_str(), layer.tar.as_path())));
    }
    for (digest, tar) in links {
        let target = fs::canonicalize(tar).with_context(|| tar.display().to_string())?;
        symlink(target, blobs.join(hex_of(digest)))?;
    }
    fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    fs::write(layout.path().join("index.json"), serde_json::to_vec(&index)?)?;
    let mut pack = Command::new("tar");
    // The layers are links in the layout; the archive holds what they point to.
    pack.args(["--create", "--dereference", "--hard-dereference", "--sort=name", "--mtime=@0"])
        .args(["--owner=0", "--group=0"])
        .arg("--file")
        .arg(path)
        .arg("--directory")
        .arg(layout.path())
        .arg(".");
    command::output(&mut pack).map(|_| ())
}

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn of(value: &Value) -> Result<Self> {
        let bytes = serde_json::to_vec(value)?;
        let hash = Sha256::digest(&bytes);
        let hex = hash.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        Ok(Self { digest: format!("sha256:{hex}"), bytes })
    }

    fn store(&self, blobs: &Path) -> Result<()> {
        fs::write(blobs.join(hex_of(&self.digest)), &self.bytes).context("image layout")
    }
}

fn hex_of(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path) -> OciImage {
        let tree = Tree::new().unwrap();
        tree.file("bin/tool", "#!/bin/sh\n", 0o755).unwrap().owner("bin/tool", 107, 107).unwrap();
        tree.capability("bin/tool", "cap_net_bind_service=ep").unwrap().link("var/run", "../run").unwrap();
        let layer = tree.pack(&dir.join("layer.tar")).unwrap();
        OciImage {
            name: "localhost/tool:1".into(),
            user: "1001".into(),
            layers: vec![layer],
            ..OciImage::default()
        }
    }

    fn listing(tar: &Path) -> String {
        command::output(
            Command::new("tar").args(["--list", "--verbose", "--numeric-owner", "--file"]).arg(tar),
        )
        .unwrap()
    }

    #[test]
    fn a_layer_keeps_owner_mode_capability_and_links() {
        let dir = tempfile::tempdir().unwrap();
        image(dir.path());
        let layer = dir.path().join("layer.tar");
        let listed = listing(&layer);
        let tool = listed.lines().find(|line| line.ends_with("./bin/tool")).unwrap();
        assert!(tool.starts_with("-rwxr-xr-x") && tool.contains("107/107"), "{tool}");
        assert!(listed.contains("./var/run -> ../run"), "{listed}");
        let raw = fs::read(layer).unwrap();
        let header: &[u8] = b"SCHILY.xattr.security.capability";
        assert!(raw.windows(header.len()).any(|bytes| bytes == header));
    }

    #[test]
    fn the_same_content_gives_the_same_archive() {
        let written = [(); 2].map(|()| {
            let dir = tempfile::tempdir().unwrap();
            let archive = dir.path().join("image.tar");
            image(dir.path()).write(&archive).unwrap();
            fs::read(archive).unwrap()
        });
        assert!(written[0] == written[1]);
    }

    #[test]
    fn a_layer_that_images_share_is_in_their_archive_once() {
        let dir = tempfile::tempdir().unwrap();
        let one = image(dir.path());
        let other = OciImage { name: "localhost/other:1".into(), user: String::new(), ..one.clone() };
        let archive = dir.path().join("both.tar");
        write_archive(&[one.clone(), other], &archive).unwrap();
        let layer = hex_of(&one.layers.first().unwrap().digest).to_owned();
        assert_eq!(listing(&archive).matches(layer.as_str()).count(), 1);
    }
}

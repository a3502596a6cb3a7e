//! The product's images are lean, and what is in them is enough to run.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

use overcommit_tests::parts::command;
use overcommit_tests::product_images::{AGENT_ARCHIVE, OPERATOR_ARCHIVE, PRODUCT_IMAGES};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;

/// An image's root, unpacked.
struct Unpacked {
    dir: tempfile::TempDir,
    config: Value,
    bytes: u64,
}

impl Unpacked {
    fn of(archive: &str) -> Self {
        let archive = PRODUCT_IMAGES.file(archive).unwrap();
        let dir = tempfile::tempdir().unwrap();
        untar(&archive, &dir.path().join("layout"));
        let read =
            |path: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
        let blob = |digest: &Value| {
            let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
            dir.path().join("layout/blobs/sha256").join(hex)
        };
        let index = read(dir.path().join("layout/index.json"));
        let manifest = read(blob(&index["manifests"][0]["digest"]));
        let layers = manifest["layers"].as_array().unwrap();
        for layer in layers {
            untar(&blob(&layer["digest"]), &dir.path().join("root"));
        }
        let bytes = layers.iter().map(|layer| layer["size"].as_u64().unwrap()).sum();
        Self { config: read(blob(&manifest["config"]["digest"]))["config"].clone(), bytes, dir }
    }

    /// Runs the image's entrypoint in its root.
    fn run(&self, args: &[&str]) -> String {
        self.try_run(args).unwrap()
    }

    fn try_run(&self, args: &[&str]) -> anyhow::Result<String> {
        let entrypoint = self.config["Entrypoint"][0].as_str().unwrap();
        let mut chroot = Command::new("chroot");
        command::output(chroot.arg(self.dir.path().join("root")).arg(entrypoint).args(args))
    }
}

fn untar(tar: &Path, into: &Path) {
    std::fs::create_dir_all(into).unwrap();
    command::output(Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(into)).unwrap();
}

#[test]
fn the_operators_image_is_one_static_program_that_runs_as_nobody() {
    let image = Unpacked::of(OPERATOR_ARCHIVE);
    assert_eq!(image.config["User"], "65532");
    assert!(image.run(&["--version"]).starts_with("overcommit-operator "));
    assert!(!image.dir.path().join("root/lib").exists(), "it needs no libraries");
    assert!(image.bytes <= 15 * MIB, "{} bytes", image.bytes);
}

#[test]
fn the_agents_image_has_every_library_that_it_needs_and_little_else() {
    let image = Unpacked::of(AGENT_ARCHIVE);
    assert!(image.run(&["--version"]).starts_with("overcommit-agent "));
    assert!(!image.dir.path().join("root/bin/sh").exists());
    // libvirt's libraries are 35 MiB of it; compressed as in a registry all of it is 20 MiB.
    assert!(image.bytes <= 49 * MIB, "{} bytes", image.bytes);
}

#[test]
fn an_agent_that_is_released_cannot_be_told_to_fail_or_to_hear_lies() {
    let image = Unpacked::of(AGENT_ARCHIVE);
    for argument in ["--fail-at=decided=kill", "--lie=web=gives"] {
        let refused = image.try_run(&["run", argument]).unwrap_err();
        let (name, _) = argument.split_once('=').unwrap();
        assert!(format!("{refused:#}").contains(&format!("unexpected argument '{name}'")), "{refused:#}");
    }
}

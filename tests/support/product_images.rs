//! The product's own two images, made from this source tree and this machine's Debian, as `deploy/images/Dockerfile` makes
//! them elsewhere: the same collecting script fills both.

use crate::images::{OciImage, Tree};
use crate::parts::{Part, Workshop, command};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Name of the operator's image.
pub const OPERATOR_IMAGE_NAME: &str = "localhost/overcommit-operator:dev";
/// Name of the agent's image.
pub const AGENT_IMAGE_NAME: &str = "localhost/overcommit-agent:dev";

/// The operator's archive in [`PRODUCT_IMAGES`].
pub const OPERATOR_ARCHIVE: &str = "overcommit-operator.tar";
/// The agent's archive in [`PRODUCT_IMAGES`].
pub const AGENT_ARCHIVE: &str = "overcommit-agent.tar";

/// What the images are made of, below the root of the source tree.
const SOURCES: [&str; 7] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "crds/src",
    "operator",
    "node-agent",
    "deploy/images",
];

/// The libraries that go into the agent's image change with this.
const LIBVIRT: &str = "/usr/lib/x86_64-linux-gnu/libvirt.so.0";

/// [`OPERATOR_ARCHIVE`] and [`AGENT_ARCHIVE`]; made anew whenever the product's sources change.
pub static PRODUCT_IMAGES: Part =
    Part { name: "product-images", cost: Duration::from_mins(10), needs: &[], inputs, build };

fn inputs() -> Result<Vec<Vec<u8>>> {
    let root = source_tree();
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    files.push(PathBuf::from(LIBVIRT));
    files.sort();
    let mut inputs = Vec::with_capacity(files.len() * 2);
    for file in files {
        let name = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().into_owned();
        inputs.push(name.into_bytes());
        inputs.push(fs::read(&file).with_context(|| format!("{}: run `make setup`", file.display()))?);
    }
    Ok(inputs)
}

/// Folders of these names are in no image.
const APART: [&str; 3] = ["benches", "sim", "tests"];

/// The regular files at or below `path`.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        if !APART.iter().any(|apart| entry.file_name() == *apart) {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn build(shop: &Workshop) -> Result<()> {
    // The flag reaches the last step only, so both programs share all other compiled crates.
    let operator = program("overcommit-operator", &["-C", "target-feature=+crt-static"], shop)?;
    let agent = program("overcommit-agent", &[], shop)?;
    // 65532 is also what the chart says; the agent is root without rights.
    archive(shop, &operator, OPERATOR_IMAGE_NAME, "65532", OPERATOR_ARCHIVE)?;
    archive(shop, &agent, AGENT_IMAGE_NAME, "", AGENT_ARCHIVE)?;
    Ok(())
}

/// Compiles a program of the workspace for release; returns its path.
fn program(name: &str, rustc: &[&str], shop: &Workshop) -> Result<PathBuf> {
    let target = target_dir();
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(source_tree())
        .args(["rustc", "--locked", "--release", "--package", name, "--bin", name, "--target-dir"])
        .arg(&target)
        .arg("--")
        .args(rustc);
    command::run(&mut cargo, &shop.log)?;
    Ok(target.join("release").join(name))
}

fn archive(shop: &Workshop, program: &Path, image: &str, user: &str, archive: &str) -> Result<()> {
    let tree = Tree::new()?;
    let mut fill = Command::new(source_tree().join("deploy/images/rootfs.sh"));
    command::run(fill.arg(program).arg(tree.place("")), &shop.log)?;
    let name = program.file_name().context("a program without a name")?.to_string_lossy();
    OciImage {
        name: image.into(),
        user: user.into(),
        entrypoint: vec![format!("/usr/bin/{name}")],
        layers: vec![tree.pack(&shop.scratch.join(format!("{name}-layer.tar")))?],
    }
    .write(&shop.out.join(archive))
}

/// The root of the source tree.
fn source_tree() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// Where cargo keeps what it compiled, so that nothing is compiled twice.
fn target_dir() -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    set.map_or_else(|| source_tree().join("target"), PathBuf::from)
}

//! Programs of Debian's newer suite that run beside this machine's own, from a folder of their own: what the product is compared with.

use super::debian::{SUITE, mirror};
use super::{Workshop, command};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's keys on Debian (package debian-archive-keyring).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What shapes a part that unpacks these packages.
pub(super) fn inputs(packages: &[&str]) -> Vec<Vec<u8>> {
    [SUITE].iter().chain(packages).map(|word| word.as_bytes().to_vec()).collect()
}

/// Gets packages and unpacks them into the folder `root` of what is being built, unchanged. `file` names them.
pub(super) fn unpack(shop: &Workshop, packages: &[&str], file: &str) -> Result<()> {
    let configuration = private_apt(&shop.scratch)?;
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        // As the user that owns the folder: apt's own user may not enter it.
        apt.args(["-q", "-o", "APT::Sandbox::User=root"]).args(arguments);
        command::run(apt.env("APT_CONFIG", &configuration).current_dir(&shop.scratch), &shop.log)
    };
    apt(&["update"])
        .with_context(|| format!("reading what Debian's {SUITE} has: is its archive reachable?"))?;
    apt(&[&["download"], packages].concat()).with_context(|| {
        format!("when {SUITE} has moved on to another version, name it in {file} ({packages:?})")
    })?;
    for entry in fs::read_dir(&shop.scratch)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            let unpack = &mut Command::new("dpkg-deb");
            command::run(unpack.arg("-x").arg(file).arg(shop.out.join("root")), &shop.log)?;
        }
    }
    Ok(())
}

/// An apt that knows Debian's other suite and leaves the machine's own lists and caches alone; proxies are the machine's.
fn private_apt(scratch: &Path) -> Result<PathBuf> {
    let sources = scratch.join("sources.list");
    fs::write(&sources, format!("deb [signed-by={KEYRING}] {} {SUITE} main\n", mirror()?))?;
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(scratch.join(folder))?;
    }
    let place = |name: &str| scratch.join(name).display().to_string();
    let text = format!(
        "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"/dev/null\";\nDir::State::lists \"{}\";\n\
         Dir::State::status \"/dev/null\";\nDir::Cache \"{}\";\nAcquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n",
        place("sources.list"),
        place("lists"),
        place("cache"),
    );
    let configuration = scratch.join("apt.conf");
    fs::write(&configuration, text)?;
    Ok(configuration)
}

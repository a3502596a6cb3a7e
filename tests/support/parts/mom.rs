//! MOM itself, from Debian: a program of its own that tests ask what a policy means. Nothing of it is in this tree.

use super::debian::{SUITE, mirror};
use super::{Part, Workshop, command};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// MOM of Debian's suite, and what its modules import.
const PACKAGES: [&str; 2] = ["mom=0.6.4-0.1", "python3-six"];
/// Debian's keys on Debian (package debian-archive-keyring).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// MOM's unpacked package, as the folder `root`.
pub static MOM: Part = Part {
    name: "mom",
    cost: Duration::from_secs(8),
    needs: &[],
    inputs: || Ok([SUITE].iter().chain(&PACKAGES).map(|word| word.as_bytes().to_vec()).collect()),
    build,
};

/// Where MOM's Python modules are.
pub fn mom_modules() -> Result<PathBuf> {
    MOM.file("root/usr/lib/python3/dist-packages")
}

/// MOM's daemon, to be run by Debian's Python with [`mom_modules`] on its path.
pub fn mom_program() -> Result<PathBuf> {
    MOM.file("root/usr/sbin/momd")
}

/// A rules file that MOM ships: `balloon.rules`, `ksm.rules`, `balloon-qos.rules`.
pub fn mom_rules(name: &str) -> Result<String> {
    let path = MOM.file("root/usr/share/doc/mom/examples")?.join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn build(shop: &Workshop) -> Result<()> {
    let configuration = private_apt(&shop.scratch)?;
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        // As the user that owns the folder: apt's own user may not enter it.
        apt.args(["-q", "-o", "APT::Sandbox::User=root"]).args(arguments);
        command::run(apt.env("APT_CONFIG", &configuration).current_dir(&shop.scratch), &shop.log)
    };
    apt(&["update"])
        .with_context(|| format!("reading what Debian's {SUITE} has: is its archive reachable?"))?;
    apt(&[&["download"], PACKAGES.as_slice()].concat()).with_context(|| {
        format!("when {SUITE} has moved on to another version, name it in tests/support/parts/mom.rs ({PACKAGES:?})")
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

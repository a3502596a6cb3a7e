//! MOM itself, from Debian: a program of its own that tests ask what a policy means. Nothing of it is in this tree.

use super::{Part, packages};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// MOM of Debian's suite, and what its modules import.
const PACKAGES: [&str; 2] = ["mom=0.6.4-0.1", "python3-six"];

/// MOM's unpacked package, as the folder `root`.
pub static MOM: Part = Part {
    name: "mom",
    cost: Duration::from_secs(8),
    needs: &[],
    inputs: || Ok(packages::inputs(&PACKAGES)),
    build: |shop| packages::unpack(shop, &PACKAGES, file!()),
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

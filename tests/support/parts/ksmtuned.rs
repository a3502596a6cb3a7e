//! ksmtuned itself, from Debian: a script beside the product, which measurements compare it with. Nothing of it is in this tree.

use super::{Part, packages};
use anyhow::Result;
use std::path::PathBuf;
use std::time::Duration;

const PACKAGES: [&str; 1] = ["ksmtuned=4.20150326+nmu1"];

/// Its unpacked package, as the folder `root`.
pub static KSMTUNED: Part = Part {
    name: "ksmtuned",
    cost: Duration::from_secs(8),
    needs: &[],
    inputs: || Ok(packages::inputs(&PACKAGES)),
    build: |shop| packages::unpack(shop, &PACKAGES, file!()),
};

/// The script, to be run by bash. It reads `/etc/ksmtuned.conf`, which no test writes, and the environment.
pub fn ksmtuned_program() -> Result<PathBuf> {
    KSMTUNED.file("root/usr/sbin/ksmtuned")
}

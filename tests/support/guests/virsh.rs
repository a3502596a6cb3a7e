//! Calls to libvirt by `virsh`: each with a deadline, since a call to a stopped daemon never returns.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Seconds a call may take. Starting a guest on two busy cores takes some.
const LIMIT: &str = "120";

/// One connection's worth of calls.
#[derive(Debug, Clone)]
pub(super) struct Virsh {
    pub(super) uri: String,
}

impl Virsh {
    /// Runs a command and returns what it printed.
    pub(super) fn call(&self, args: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = Command::new("timeout")
            .args(["--kill-after=1", LIMIT, "virsh", "--quiet", "--connect", &self.uri])
            .args(args)
            .env("LC_ALL", "C")
            .output()
            .context("starting virsh (run `make setup`)")?;
        if !status.success() {
            bail!("virsh {}: {status}: {}", args.join(" "), String::from_utf8_lossy(&stderr).trim());
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

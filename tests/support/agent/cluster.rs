//! The agent of a cluster's node, without the cluster: what it finds in its state directory, and an API server that is away.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Agent, FIRST_REPORT, HostMemory};
use crate::process::Launch;
use crate::session::Session;

/// The node of all these agents.
pub const NODE: &str = "a";

/// Access to an API server that nobody answers for, as a file in this folder.
///
/// # Errors
/// When it cannot be written.
pub fn nobodys_kubeconfig(dir: &Path) -> Result<PathBuf> {
    let file = dir.join("kubeconfig");
    // Nothing listens there.
    let server = "{name: c, cluster: {server: 'http://127.0.0.1:1'}}";
    let context = "{name: c, context: {cluster: c, user: u}}";
    let parts = format!("clusters: [{server}]\ncontexts: [{context}]\nusers: [{{name: u, user: {{}}}}]\n");
    std::fs::write(&file, format!("apiVersion: v1\nkind: Config\ncurrent-context: c\n{parts}"))?;
    Ok(file)
}

/// Writes a file of a state directory as an agent does: below a line with its SHA-256.
///
/// # Errors
/// When it cannot be written.
pub fn seal(state_dir: &Path, name: &str, content: &Value) -> Result<()> {
    let file = state_dir.join(name);
    std::fs::write(&file, content.to_string())?;
    let sum = Command::new("sha256sum").arg(&file).output()?;
    let sum = String::from_utf8(sum.stdout)?;
    let sum = sum.split_whitespace().next().context("no sum")?;
    Ok(std::fs::write(&file, format!("{sum}\n{content}"))?)
}

impl Agent {
    /// Starts the agent of the node `a`, on a host that has as much memory as `host` says, and waits for its first report.
    ///
    /// # Errors
    /// When it ends or does not report; with the last lines of its log.
    pub fn start_on_node(kubeconfig: &Path, state_dir: &Path, host: &HostMemory) -> Result<Self> {
        Self::start_program_on_node(&Self::program()?, kubeconfig, state_dir, host, &[])
    }

    /// As [`Agent::start_on_node`], of another build or with further arguments of `run`.
    ///
    /// # Errors
    /// As [`Agent::start_on_node`].
    pub fn start_program_on_node(
        program: &Path,
        kubeconfig: &Path,
        state_dir: &Path,
        host: &HostMemory,
        further: &[&str],
    ) -> Result<Self> {
        let launch = Launch::new("agent", "sh")
            .args(["-c", super::WITH_HOST])
            .arg(&host.file)
            .arg(program)
            .args(["run", "--node", NODE, "--output", "json", "--state-dir"])
            .arg(state_dir)
            .args(further)
            .env("KUBECONFIG", kubeconfig)
            .own_mounts();
        let agent = Self { process: Session::shared()?.spawn(launch)?, state_dir: state_dir.to_owned() };
        agent.process.ready(FIRST_REPORT, "its first report", || agent.report().map(|_| ()))?;
        Ok(agent)
    }
}

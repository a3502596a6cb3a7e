//! The machine that something was measured on, in words.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::machine::meminfo;
use crate::parts::command;

/// Processors, memory, system and what runs the guests, in one sentence.
///
/// # Errors
/// When the kernel or a program does not say.
pub fn description() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let release = fs::read_to_string("/etc/os-release")?;
    let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let first_line = |program: &str| -> Result<String> {
        let told = command::output(Command::new(program).arg("--version"))?;
        Ok(told.lines().next().unwrap_or_default().to_owned())
    };
    Ok(format!(
        "{} × {}, {} MiB, {}, kernel {}; {}; {}; guests emulated (TCG).",
        cpus.lines().filter(|line| line.starts_with("processor")).count(),
        model.map_or("unknown", |(_, name)| name),
        meminfo("MemTotal")? >> 20,
        system.trim_matches('"'),
        kernel.split(['-', '\n']).next().unwrap_or_default(),
        first_line("libvirtd")?,
        first_line("qemu-system-x86_64")?
    ))
}

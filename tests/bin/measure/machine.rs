//! The machine that was measured, as far as the figures depend on it.

use std::fs;
use std::process::Command;

use anyhow::Result;
use overcommit_tests::machine::meminfo;
use overcommit_tests::parts::command;

/// Load average of the last minute: above 1, what is measured waits for others.
pub(crate) fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

/// In one paragraph; `load` is that before anything was started.
pub(crate) fn description(load: &str) -> Result<String> {
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
        "{} × {}, {} MiB, {}, kernel {}; {}; {}; guests emulated (TCG). Load average \
         of the minute before: {load}.",
        cpus.lines().filter(|line| line.starts_with("processor")).count(),
        model.map_or("unknown", |(_, name)| name),
        meminfo("MemTotal")? >> 20,
        system.trim_matches('"'),
        kernel.split(['-', '\n']).next().unwrap_or_default(),
        first_line("libvirtd")?,
        first_line("qemu-system-x86_64")?
    ))
}

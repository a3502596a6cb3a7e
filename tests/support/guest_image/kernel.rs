//! Debian's cloud kernel: found, downloaded and unpacked, never installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The package that always depends on the release's newest cloud kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel package.
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
}

/// An unpacked kernel package.
pub(super) struct Kernel {
    pub(super) vmlinuz: PathBuf,
    modules: PathBuf,
}

/// The kernel package of this machine's Debian release.
pub(super) fn package() -> Result<Package> {
    let depends = run("apt-cache", &["depends", "--important", META_PACKAGE], Path::new("/"))?;
    let name = depends
        .lines()
        .find_map(|l| l.trim().strip_prefix("Depends: "))
        .filter(|n| n.starts_with("linux-image-"));
    let name =
        name.with_context(|| format!("{META_PACKAGE} is unknown to apt: run `make setup`"))?.to_owned();
    let shown = run("apt-cache", &["show", "--no-all-versions", &name], Path::new("/"))?;
    let version =
        shown.lines().find_map(|l| l.strip_prefix("Version: ")).context("apt-cache shows no version")?;
    Ok(Package { version: version.to_owned(), name })
}

impl Package {
    /// Downloads and unpacks into a new folder below `work`.
    pub(super) fn unpack(&self, work: &Path) -> Result<Kernel> {
        let wanted = format!("{}={}", self.name, self.version);
        // As the user that owns the folder: apt's own user may not enter it.
        run("apt-get", &["download", "-q", "-o", "APT::Sandbox::User=root", &wanted], work)
            .context("downloading the kernel (when the archive has moved on: `apt-get update`)")?;
        let names: Vec<_> = fs::read_dir(work)?.flatten().map(|entry| entry.path()).collect();
        let deb = names
            .iter()
            .find(|p| p.extension().is_some_and(|e| e == "deb"))
            .context("apt-get left no package")?;
        run("dpkg-deb", &["-x", deb.to_str().context("file name")?, "kernel"], work)?;
        let release = self.name.trim_start_matches("linux-image-");
        let root = work.join("kernel");
        Ok(Kernel {
            vmlinuz: root.join("boot").join(format!("vmlinuz-{release}")),
            modules: root.join("lib/modules").join(release).join("kernel"),
        })
    }
}

impl Kernel {
    /// Files of these drivers in the order of loading, those that they need before them. Drivers that are built in have no file.
    pub(super) fn drivers(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = BTreeMap::new();
        index(&self.modules, &mut files)?;
        let mut ordered = Vec::new();
        for name in wanted {
            add(name, &files, &mut ordered)?;
        }
        Ok(ordered)
    }
}

fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some(stem) =
            path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".ko"))
        {
            files.insert(stem.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, ordered: &mut Vec<PathBuf>) -> Result<()> {
    let Some(file) = files.get(&name.replace('-', "_")) else { return Ok(()) };
    if ordered.contains(file) {
        return Ok(());
    }
    for needed in needs(&fs::read(file)?) {
        add(&needed, files, ordered)?;
    }
    ordered.push(file.clone());
    Ok(())
}

/// Names in the `depends=` entry of a module's `.modinfo` section (include/linux/module.h), as depmod would find them.
fn needs(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = module.iter().skip(at + KEY.len()).take_while(|byte| **byte != 0).copied().collect();
    let text = String::from_utf8(value).unwrap_or_default();
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn run(program: &str, args: &[&str], folder: &Path) -> Result<String> {
    let done = Command::new(program).args(args).current_dir(folder).env("LC_ALL", "C").output();
    let done = done.with_context(|| format!("starting {program}"))?;
    if !done.status.success() {
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_modules_own_words() {
        let words = b"ELF\0license=GPL\0depends=virtio,virtio_ring\0retpoline=Y\0";
        assert_eq!(needs(words), ["virtio", "virtio_ring"]);
        assert!(needs(b"\0depends=\0intree=Y\0").is_empty());
    }
}

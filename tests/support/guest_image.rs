//! Kernel and initramfs of the test guests: Debian's cloud kernel, busybox, the virtio drivers and our load program.
//!
//! Built once per set of inputs and kept in the cache folder. The same two files serve libvirt guests and, in an image, KubeVirt's
//! `kernelBoot`: all orders come on the kernel command line.

mod initramfs;
mod kernel;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::machine;

/// Debian's statically linked busybox (package busybox-static).
const BUSYBOX: &str = "/bin/busybox";

/// Sources of what runs in the guest, below `guest-load/`.
const SOURCES: [&str; 5] = ["init", "main.rs", "load.rs", "port.rs", "work.rs"];

/// Drivers that the guests load, in the kernel's names; those that they need come before them.
const DRIVERS: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_console", "virtio_balloon"];

/// How the load program is compiled: it must run where there is no libc.
const RUSTC: [&str; 6] =
    ["main.rs", "--edition=2024", "-O", "-Ctarget-feature=+crt-static", "-Cpanic=abort", "-Cstrip=symbols"];

/// Version of this recipe itself: to be raised when the steps change and the inputs do not.
const RECIPE: &str = "1";

/// What a guest boots.
#[derive(Debug, Clone)]
pub struct GuestImage {
    /// The kernel.
    pub vmlinuz: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
}

impl GuestImage {
    /// Kernel command line on which a guest boots and obeys; the load's words follow it. `acpi_pm`: under TCG time runs wrong by the
    /// default clock source.
    pub const KERNEL_ARGS: &str = "console=ttyS0 quiet loglevel=4 clocksource=acpi_pm";

    /// The image, built if the cache does not hold it (about 15 s).
    pub fn ensure() -> Result<Self> {
        // One build at a time in a process; two processes at worst both build, and one of them wins.
        static BUILD: Mutex<()> = Mutex::new(());
        let _one = BUILD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        machine::require("busybox", "busybox-static")?;
        let package = kernel::package()?;
        let dir = machine::cache_dir()?.join(format!("guest-{}", key(&package)?));
        let image = Self { vmlinuz: dir.join("vmlinuz"), initrd: dir.join("initrd") };
        if !(image.vmlinuz.is_file() && image.initrd.is_file()) {
            build(&package, &dir).context("building the test guests' kernel and initramfs")?;
        }
        Ok(image)
    }
}

/// Hash of all inputs.
fn key(package: &kernel::Package) -> Result<String> {
    let mut hash = Sha256::new();
    let words = [RECIPE, &package.name, &package.version, GuestImage::KERNEL_ARGS];
    for word in words.iter().chain(&DRIVERS).chain(&RUSTC) {
        hash.update(word);
        hash.update([0]);
    }
    let sources = SOURCES.iter().map(|name| guest_load().join(name));
    for file in sources.chain([PathBuf::from(BUSYBOX)]) {
        hash.update(fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(hash.finalize().iter().take(6).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
}

fn guest_load() -> PathBuf {
    machine::sources().join("guest-load")
}

/// Builds beside the place and renames, so that the place is whole or not there.
fn build(package: &kernel::Package, dir: &Path) -> Result<()> {
    let parent = dir.parent().context("the cache folder has no parent")?;
    let work = tempfile::tempdir_in(parent)?;
    let kernel = package.unpack(work.path())?;
    let done = work.path().join("done");
    fs::create_dir(&done)?;
    fs::copy(&kernel.vmlinuz, done.join("vmlinuz"))?;
    let load = compile_load(work.path())?;
    let archive =
        initramfs::archive(BUSYBOX.as_ref(), &load, &guest_load().join("init"), &kernel.drivers(&DRIVERS)?)?;
    fs::write(done.join("initrd"), archive)?;
    match fs::rename(&done, dir) {
        // Somebody else built the same meanwhile.
        Err(_) if dir.join("initrd").is_file() => Ok(()),
        other => other.with_context(|| format!("moving the image to {}", dir.display())),
    }
}

/// Compiles the load program by itself, in the sources' folder, where the pinned compiler is the one that answers.
fn compile_load(work: &Path) -> Result<PathBuf> {
    let load = work.join("load");
    let done = Command::new("rustc").current_dir(guest_load()).args(RUSTC).arg("-o").arg(&load).output();
    let done = done.context("starting rustc (run `make setup`)")?;
    if !done.status.success() {
        bail!("compiling guest-load: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(load)
}

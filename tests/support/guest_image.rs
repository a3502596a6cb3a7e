//! Kernel and initramfs of the test guests: Debian's cloud kernel, busybox, the virtio drivers and our load program.
//!
//! A part like others. The same two files serve libvirt guests and, in an image, KubeVirt's `kernelBoot`: all orders come on the
//! kernel command line.

mod initramfs;
mod kernel;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::machine;
use crate::parts::{Part, Workshop};

/// Debian's statically linked busybox (package busybox-static).
const BUSYBOX: &str = "/bin/busybox";

/// Of this machine (package util-linux), with what it is linked to, under the same names in the guest: busybox has none.
const CHRT: [(&str, &str); 3] = [
    ("/usr/bin/chrt", "bin/chrt"),
    ("/lib/x86_64-linux-gnu/libc.so.6", "lib/x86_64-linux-gnu/libc.so.6"),
    ("/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
];

/// Sources of what runs in the guest, below `guest-load/`.
const SOURCES: [&str; 8] =
    ["init", "main.rs", "fault.rs", "load.rs", "port.rs", "serve.rs", "waits.rs", "work.rs"];

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
    /// default clock source. `no_timer_check`: a guest that gets no processor for a moment while it boots would take its timer for
    /// broken and panic.
    pub const KERNEL_ARGS: &str = "console=ttyS0 quiet loglevel=4 clocksource=acpi_pm no_timer_check";

    /// The image, built if the cache does not hold it.
    pub fn ensure() -> Result<Self> {
        let dir = GUEST_KERNEL.ensure()?;
        Ok(Self { vmlinuz: dir.join("vmlinuz"), initrd: dir.join("initrd") })
    }
}

/// The files `vmlinuz` and `initrd`.
pub static GUEST_KERNEL: Part =
    Part { name: "guest-kernel", cost: Duration::from_secs(15), needs: &[], inputs, build };

fn inputs() -> Result<Vec<Vec<u8>>> {
    machine::require("busybox", "busybox-static")?;
    machine::require("chrt", "util-linux")?;
    let package = kernel::package()?;
    let words = [RECIPE, &package.name, &package.version, GuestImage::KERNEL_ARGS];
    let mut inputs: Vec<Vec<u8>> =
        words.iter().chain(&DRIVERS).chain(&RUSTC).map(|word| word.as_bytes().to_vec()).collect();
    let ours = SOURCES.iter().map(|name| guest_load().join(name));
    for file in ours.chain([BUSYBOX].into_iter().chain(CHRT.map(|(from, _)| from)).map(PathBuf::from)) {
        inputs.push(fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(inputs)
}

fn guest_load() -> PathBuf {
    machine::sources().join("guest-load")
}

fn build(shop: &Workshop) -> Result<()> {
    let kernel = kernel::package()?.unpack(&shop.scratch)?;
    fs::copy(&kernel.vmlinuz, shop.out.join("vmlinuz"))?;
    let load = compile_load(&shop.scratch)?;
    let init = guest_load().join("init");
    let programs =
        [("init", init.as_path()), ("bin/busybox", BUSYBOX.as_ref()), ("bin/load", load.as_path())];
    let programs: Vec<_> =
        programs.into_iter().chain(CHRT.iter().map(|(from, to)| (*to, Path::new(*from)))).collect();
    let archive = initramfs::archive(&programs, &kernel.drivers(&DRIVERS)?)?;
    fs::write(shop.out.join("initrd"), archive).context("initrd")
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

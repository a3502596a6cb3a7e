//! What comes from Debian: packages of this machine, and the root of the `KubeVirt` images.

use super::{Part, Workshop, command};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Debian's suite with libvirt 11 and QEMU 10, near to what `KubeVirt` 1.7 ships (10.10 and 9.1).
pub(super) const SUITE: &str = "trixie";

/// What the launcher and the handler call. sysvinit-core: the libvirt driver wants an init system, and systemd does
/// not configure in a root that never boots.
const PACKAGES: &[&str] = &[
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "libvirt-clients",
    "qemu-system-x86",
    "qemu-utils",
    "nftables",
    "procps",
    "iproute2",
    "passt",
    "sysvinit-core",
];

/// Folders that no program in an image reads.
const UNREAD: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/i18n",
    "usr/share/info",
    "usr/share/icons",
    "usr/lib/locale",
    "var/lib/apt/lists",
    "var/cache/apt",
    "var/cache/debconf",
    "var/cache/ldconfig",
];

/// Debian trixie with libvirt and QEMU, as the folder `root`.
pub static TRIXIE: Part = Part {
    name: "trixie-root",
    cost: Duration::from_mins(1),
    needs: &[],
    inputs: || {
        Ok([SUITE].iter().chain(PACKAGES).chain(UNREAD).map(|word| word.as_bytes().to_vec()).collect())
    },
    build: build_root,
};

fn build_root(shop: &Workshop) -> Result<()> {
    let root = shop.out.join("root");
    let mut bootstrap = in_own_mounts("debootstrap");
    bootstrap.args(["--variant=minbase", SUITE]).arg(&root).arg(mirror()?);
    command::run(&mut bootstrap, &shop.log)?;
    fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf")).context("/etc/resolv.conf")?;
    fs::write(root.join("etc/apt/apt.conf.d/00network"), network_configuration()?)?;
    // Maintainer scripts must not start daemons: invoke-rc.d asks this program and 101 means "forbidden".
    let policy = root.join("usr/sbin/policy-rc.d");
    fs::write(&policy, "#!/bin/sh\nexit 101\n")?;
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o755))?;
    let mut install = in_own_mounts("chroot");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .arg(&root)
        .args(["apt-get", "install", "--yes", "--no-install-recommends"])
        .args(PACKAGES);
    command::run(&mut install, &shop.log)?;
    for dir in UNREAD {
        empty(&root.join(dir))?;
    }
    Ok(())
}

// debootstrap mounts /proc in the new root; in a namespace of its own nothing stays if it is killed.
fn in_own_mounts(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", program]);
    command
}

fn empty(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
        fs::create_dir(dir).with_context(|| dir.display().to_string())?;
    }
    Ok(())
}

/// The Debian archive that this machine's apt is set up for.
pub(super) fn mirror() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]);
    let uris = command::output(&mut targets)?;
    uris.lines().next().map(str::to_owned).context(
        "apt knows no Debian archive on this machine; run `apt-get update` (see /etc/apt/sources.list.d)",
    )
}

/// Proxy and retry settings of this machine's apt, for the apt in the new root.
fn network_configuration() -> Result<String> {
    let dump = command::output(Command::new("apt-config").args(["dump", "Acquire"]))?;
    let wanted = |line: &&str| {
        ["Acquire::http::", "Acquire::https::", "Acquire::Retries"].iter().any(|key| line.starts_with(key))
    };
    Ok(dump.lines().filter(wanted).fold(String::new(), |text, line| text + line + "\n"))
}

//! The initramfs: an archive in cpio's "newc" format (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Written here rather than by cpio, so that equal inputs give equal bytes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Commands of busybox that the init script uses.
const APPLETS: [&str; 9] = ["sh", "mount", "cat", "insmod", "mkswap", "swapon", "sleep", "free", "dmesg"];

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

/// Packs what a guest needs: programs by their names in the guest, and `modules` in the order of loading.
pub(super) fn archive(programs: &[(&str, &Path)], modules: &[PathBuf]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "lib", "lib/x86_64-linux-gnu", "lib64", "proc", "sys", "tmp", "modules"] {
        archive.add(folder, FOLDER, b"")?;
    }
    for (name, file) in programs {
        archive.add(name, PROGRAM, &read(file)?)?;
    }
    for applet in APPLETS {
        archive.add(&format!("bin/{applet}"), LINK, b"busybox")?;
    }
    let mut order = String::new();
    for module in modules {
        let name = module.file_name().and_then(|n| n.to_str()).context("module file name")?;
        archive.add(&format!("modules/{name}"), FILE, &read(module)?)?;
        order += name;
        order.push('\n');
    }
    archive.add("modules/order", FILE, order.as_bytes())?;
    archive.add("TRAILER!!!", 0, b"")?;
    Ok(archive.bytes)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {}", file.display()))
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds an entry, owned by root and without a time.
    fn add(&mut self, name: &str, mode: u32, contents: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(contents.len()).context("file too large for cpio")?;
        let name_size = u32::try_from(name.len() + 1).context("name too long for cpio")?;
        // inode, mode, uid, gid, links, mtime, size, dev major and minor, rdev major and minor, name size, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
        Ok(())
    }

    /// Names and contents end on a multiple of four bytes.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_sized() {
        let mut archive = Archive::default();
        archive.add("abc", FILE, b"12345").unwrap();
        assert_eq!(archive.bytes.len(), 124);
        assert!(archive.bytes.starts_with(b"07070100000001000081a4"));
        assert_eq!(&archive.bytes[110..121], b"abc\0\0\x0012345");
    }
}

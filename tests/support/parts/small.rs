//! Two small images: the sandbox of every pod, and the guests' kernel.

use super::{Part, Workshop};
use crate::guest_image::{GUEST_KERNEL, GuestImage};
use crate::images::{OciImage, Tree};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// Name of the image in which pod sandboxes sit.
pub const PAUSE_IMAGE_NAME: &str = "localhost/pause:1";
/// Name of the image with the guests' kernel and initramfs, for `kernelBoot`.
pub const GUEST_IMAGE_NAME: &str = "localhost/guest:1";
/// The kernel in that image.
pub const GUEST_KERNEL_PATH: &str = "/boot/vmlinuz";
/// The initramfs in that image.
pub const GUEST_INITRD_PATH: &str = "/boot/initrd";

/// Debian's package busybox-static.
const BUSYBOX: &str = "/bin/busybox";

/// `pause.tar`.
pub static PAUSE_IMAGE: Part = Part {
    name: "pause-image",
    cost: Duration::from_secs(1),
    needs: &[],
    inputs: || Ok(vec![b"2".to_vec(), read(Path::new(BUSYBOX))?]),
    build: build_pause,
};

fn build_pause(shop: &Workshop) -> Result<()> {
    let tree = Tree::new()?;
    tree.copy(Path::new(BUSYBOX), "bin/busybox", 0o755)?;
    let layer = tree.pack(&shop.scratch.join("pause-layer.tar"))?;
    OciImage {
        name: PAUSE_IMAGE_NAME.into(),
        user: "65535".into(),
        // The longest that a 32-bit sleep can: 68 years.
        entrypoint: ["/bin/busybox", "sleep", "2147483647"].map(String::from).to_vec(),
        layers: vec![layer],
    }
    .write(&shop.out.join("pause.tar"))
}

/// `guest.tar`: the kernel and initramfs of [`GuestImage`] as an image.
pub static GUEST_IMAGE: Part = Part {
    name: "guest-oci-image",
    cost: Duration::from_secs(5),
    needs: &[&GUEST_KERNEL],
    inputs: || Ok(vec![b"3".to_vec()]),
    build: build_guest,
};

fn build_guest(shop: &Workshop) -> Result<()> {
    let image = GuestImage::ensure()?;
    let tree = Tree::new()?;
    for (from, path) in [(&image.vmlinuz, GUEST_KERNEL_PATH), (&image.initrd, GUEST_INITRD_PATH)] {
        let content = std::fs::read(from).with_context(|| from.display().to_string())?;
        tree.file(path, padded_for_kubevirt(content), 0o644)?;
    }
    for path in ["boot", GUEST_KERNEL_PATH, GUEST_INITRD_PATH] {
        // QEMU runs as this user in a launcher.
        tree.owner(path, 107, 107)?;
    }
    let layer = tree.pack(&shop.scratch.join("guest-layer.tar"))?;
    OciImage { name: GUEST_IMAGE_NAME.into(), layers: vec![layer], ..OciImage::default() }
        .write(&shop.out.join("guest.tar"))
}

/// `KubeVirt` 1.7 writes the CRC-32 of both files into the VMI's status, as a number that its own schema calls int32:
/// with the highest bit set the status is refused and the VMI never gets to Running. Zeros at the end change the
/// checksum, and neither the boot protocol nor the initramfs format minds them.
fn padded_for_kubevirt(mut content: Vec<u8>) -> Vec<u8> {
    while i32::try_from(crc32(&content)).is_err() {
        content.extend([0; 4]);
    }
    content
}

/// CRC-32 with the IEEE polynomial, as Go's hash/crc32 computes it.
fn crc32(content: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !content.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{}: missing, run `make setup`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_gos() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn padded_files_have_checksums_that_fit_kubevirts_schema() {
        let padded = padded_for_kubevirt(b"123456789".to_vec());
        assert!(padded.starts_with(b"123456789") && crc32(&padded) < 1 << 31);
    }
}

//! `/sys/kernel/mm/ksm` (Documentation/admin-guide/mm/ksm.rst).

use overcommit_core::sample::Ksm;
use overcommit_core::units::Bytes;

use crate::held::Held;
use crate::root::Root;

/// KSM's counters, held open.
#[derive(Debug)]
pub(crate) struct KsmFiles {
    run: Held,
    pages_sharing: Held,
    full_scans: Held,
    page_size: u64,
}

impl KsmFiles {
    pub(crate) fn new(root: &Root) -> Self {
        let file = |name: &str| Held::new(root.join("sys/kernel/mm/ksm").join(name));
        Self {
            run: file("run"),
            pages_sharing: file("pages_sharing"),
            full_scans: file("full_scans"),
            page_size: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
        }
    }

    /// What it does now; absent where the kernel has no KSM or writes something else.
    pub(crate) fn read(&mut self) -> Option<Ksm> {
        Some(Ksm {
            run: number(&mut self.run)?,
            sharing: Bytes::new(number::<u64>(&mut self.pages_sharing)?.saturating_mul(self.page_size)),
            full_scans: number(&mut self.full_scans)?,
        })
    }
}

fn number<N: std::str::FromStr>(file: &mut Held) -> Option<N> {
    file.read().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(run: &str) -> (tempfile::TempDir, KsmFiles) {
        let dir = tempfile::tempdir().unwrap();
        let ksm = dir.path().join("sys/kernel/mm/ksm");
        std::fs::create_dir_all(&ksm).unwrap();
        for (name, text) in [("run", run), ("pages_sharing", "10\n"), ("full_scans", "3\n")] {
            std::fs::write(ksm.join(name), text).unwrap();
        }
        let files = KsmFiles::new(&Root::new(dir.path()));
        (dir, files)
    }

    #[test]
    fn merging_is_counted_in_bytes() {
        let (_dir, mut files) = tree("1\n");
        let ksm = files.read().unwrap();
        assert_eq!((ksm.run, ksm.full_scans), (1, 3));
        assert_eq!(ksm.sharing, Bytes::new(10 * files.page_size));
    }

    #[test]
    fn a_kernel_without_ksm_has_none() {
        assert_eq!(KsmFiles::new(&Root::new("/nonexistent")).read(), None);
        let (_dir, mut files) = tree("yes\n");
        assert_eq!(files.read(), None);
    }
}

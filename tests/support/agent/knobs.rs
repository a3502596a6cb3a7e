//! Knobs for merging equal pages that no kernel reads: an agent may be killed while it writes them.

use std::fs;

use anyhow::{Context as _, Result};

use super::HostMemory;

/// As a kernel has them that merges nothing and has no advisor, whose file shows another text than is written there
/// (Documentation/admin-guide/mm/ksm.rst; before Linux 6.8).
const FOUND: [(&str, &str); 6] = [
    ("run", "0"),
    ("pages_to_scan", "100"),
    ("sleep_millisecs", "20"),
    ("pages_shared", "0"),
    ("pages_sharing", "0"),
    ("full_scans", "0"),
];

impl HostMemory {
    /// Shows such knobs, as they are found, to agents that are started from now on: in the place of the kernel's.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn show_knobs(&self) -> Result<()> {
        let folder = self.file.with_file_name("ksm");
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        FOUND.iter().try_for_each(|(name, value)| Ok(fs::write(folder.join(name), value)?))
    }

    /// A kernel takes what is written, or does not. Of a file that was emptied to be written, and was not written any more, it
    /// would have nothing but what it had.
    ///
    /// # Errors
    /// When one can neither be read nor written.
    pub fn settle_knobs(&self) -> Result<()> {
        let folder = self.file.with_file_name("ksm");
        for (name, found) in FOUND {
            let knob = folder.join(name);
            if fs::read_to_string(&knob).with_context(|| name.to_owned())?.is_empty() {
                fs::write(&knob, found)?;
            }
        }
        Ok(())
    }

    /// Those knobs that are not as they were found, as `name=value`.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn turned_knobs(&self) -> Result<Vec<String>> {
        let folder = self.file.with_file_name("ksm");
        let mut turned = Vec::new();
        for (name, found) in FOUND {
            let value = fs::read_to_string(folder.join(name)).with_context(|| name.to_owned())?;
            if value.trim() != found {
                turned.push(format!("{name}={}", value.trim()));
            }
        }
        Ok(turned)
    }
}

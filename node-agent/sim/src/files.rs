//! What both commands do with files.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::{Outcome, picture, scenario};

/// Reads what a person wrote.
///
/// # Errors
/// When it cannot be read, with its place.
pub fn read(what: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let about = fs::metadata(path).with_context(|| format!("{what} file {shown} cannot be read"))?;
    // A pipe would be waited for without end.
    ensure!(about.is_file(), "{what} file {shown} is no regular file: write the {what} to one and name that");
    let limit = u64::try_from(scenario::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut content = Vec::new();
    let taken = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut content));
    taken.with_context(|| format!("{what} file {shown} cannot be read"))?;
    Ok(content)
}

/// Where an outcome is written besides the table.
#[derive(Debug)]
pub struct Outlets {
    json: Option<PathBuf>,
    svg: Option<PathBuf>,
}

impl Outlets {
    /// Looks at both before a long work, and touches neither.
    ///
    /// # Errors
    /// When one cannot be written, or is one of the `inputs`, or both are the same.
    pub fn check(json: Option<&Path>, svg: Option<&Path>, inputs: &[&Path]) -> anyhow::Result<Self> {
        let mut taken: Vec<PathBuf> = inputs.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        for path in json.into_iter().chain(svg) {
            let shown = path.display();
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = fs::canonicalize(folder.unwrap_or_else(|| Path::new(".")));
            let folder = folder.with_context(|| format!("{shown} cannot be written"))?;
            let whole =
                fs::canonicalize(path).unwrap_or_else(|_| folder.join(path.file_name().unwrap_or_default()));
            ensure!(
                folder.is_dir() && !whole.is_dir(),
                "{shown} cannot be written: name a file in a folder that exists"
            );
            ensure!(!taken.contains(&whole), "{shown} is named twice: it would be overwritten");
            taken.push(whole);
        }
        Ok(Self { json: json.map(Path::to_owned), svg: svg.map(Path::to_owned) })
    }

    /// Writes the outcome.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let put = |path: &Path, content: &[u8]| {
            fs::write(path, content).with_context(|| format!("{} cannot be written", path.display()))
        };
        if let Some(path) = &self.json {
            put(path, &serde_json::to_vec_pretty(outcome).context("the outcome is no JSON")?)?;
        }
        self.svg.as_deref().map_or(Ok(()), |path| put(path, picture(outcome).as_bytes()))
    }
}

//! Sizes of the product's images, and the rights that its chart grants.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use overcommit_tests::chart;
use overcommit_tests::parts::command;
use overcommit_tests::product_images::{AGENT_ARCHIVE, OPERATOR_ARCHIVE, PRODUCT_IMAGES};

const MIB: f64 = 1_048_576.0;

/// Both, in Markdown.
pub(crate) fn measure() -> Result<String> {
    let mut text = String::from(
        "## Images\n\n| image | layer, MiB | as gzip in a registry, MiB |\n| --- | --- | --- |\n",
    );
    for archive in [OPERATOR_ARCHIVE, AGENT_ARCHIVE] {
        let dir = tempfile::tempdir()?;
        let tar = PRODUCT_IMAGES.file(archive)?;
        command::output(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(dir.path()))?;
        // The layer is all but the two small JSON files.
        let layer = largest(&dir.path().join("blobs/sha256"))?;
        let name = archive.trim_end_matches(".tar");
        writeln!(text, "| {name} | {:.1} | {:.1} |", layer.0, gzipped(&layer.1)?)?;
    }
    text.push_str("\n## Rights\n\nAll that the chart grants:\n\n");
    for right in chart::rights(&chart::rendered("overcommit", &[])?)? {
        writeln!(text, "- {right}")?;
    }
    Ok(text.trim_end().to_owned())
}

fn largest(dir: &Path) -> Result<(f64, std::path::PathBuf)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        files.push((u32::try_from(entry.metadata()?.len()).context("a layer of 4 GiB")?, entry.path()));
    }
    let (bytes, path) = files.into_iter().max().context("an image without blobs")?;
    Ok((f64::from(bytes) / MIB, path))
}

fn gzipped(file: &Path) -> Result<f64> {
    let out = tempfile::NamedTempFile::new()?;
    // Without the file's time: it is that of the year 1970, of which gzip complains.
    let done =
        Command::new("gzip").arg("--no-name").stdin(File::open(file)?).stdout(out.reopen()?).status()?;
    anyhow::ensure!(done.success(), "gzip: {done}");
    Ok(f64::from(u32::try_from(out.as_file().metadata()?.len())?) / MIB)
}

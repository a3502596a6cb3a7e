//! What the commands do with files.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, ensure};

use crate::scenario::{self, Scenario};
use crate::{Orders, Outcome, harmless, picture};

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

/// Reads a scenario file; its name is the file's.
///
/// # Errors
/// What is wrong, with its place.
pub fn scenario(path: &Path) -> anyhow::Result<(String, Scenario)> {
    let shown = path.display().to_string();
    let scenario = scenario::read(&read("scenario", path)?)
        .map_err(|error| anyhow!("scenario file {shown}: {error}"))?;
    let name = path.file_stem().map_or_else(|| shown.clone(), |stem| stem.to_string_lossy().into_owned());
    Ok((name, scenario))
}

/// Reads a policy file.
///
/// # Errors
/// What is wrong, with its place.
pub fn orders(path: &Path) -> anyhow::Result<Orders> {
    Orders::read(&read("policy", path)?).map_err(|error| anyhow!("policy file {}: {error}", path.display()))
}

/// Bad usage or bad input, as clap has it.
pub const BAD_INPUT: u8 = 2;

/// Says why a command ends without success.
pub fn failed(command: &str, error: &anyhow::Error, code: u8) -> ExitCode {
    // Where nobody can read it, the exit code says it.
    drop(writeln!(std::io::stderr(), "{}", harmless(&format!("{command}: {error:#}"))));
    ExitCode::from(code)
}

/// Looks at `outlets` before a long work, and touches none.
///
/// # Errors
/// When one cannot be written, or is one of the `inputs`, or two are the same.
pub fn check_outlets<'a, 'b>(
    outlets: impl IntoIterator<Item = &'a PathBuf>,
    inputs: impl IntoIterator<Item = &'b PathBuf>,
) -> anyhow::Result<()> {
    let mut taken: Vec<Place> = inputs.into_iter().map(|path| Place::of(path)).collect();
    for path in outlets {
        let (shown, place) = (path.display(), Place::of(path));
        let folder = place.whole.parent().is_some_and(Path::is_dir);
        ensure!(
            folder && !place.whole.is_dir(),
            "{shown} cannot be written: name a file in a folder that exists"
        );
        ensure!(!place.is_pipe, "{shown} is a pipe: nobody may read it; name a file");
        ensure!(
            !taken.iter().any(|other| place.is(other)),
            "{shown} is named twice: it would be overwritten"
        );
        taken.push(place);
    }
    Ok(())
}

/// Sees to it that each recording is another file, however it is written.
///
/// # Errors
/// When one is named twice: each of its decisions would count twice.
pub fn check_recordings(recordings: &[PathBuf]) -> anyhow::Result<()> {
    let mut taken: Vec<Place> = Vec::with_capacity(recordings.len());
    for path in recordings {
        let place = Place::of(path);
        ensure!(
            !taken.iter().any(|other| place.is(other)),
            "recording {} is named twice, and each of its decisions would count twice: name it once",
            path.display()
        );
        taken.push(place);
    }
    Ok(())
}

/// Where an outcome is written besides the table.
#[derive(Debug, clap::Args)]
pub struct Outlets {
    /// Writes everything as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws the node and each guest over time, too.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Outlets {
    /// Looks at both before a long work, and touches neither.
    ///
    /// # Errors
    /// When one cannot be written, or is one of the `inputs`, or both are the same.
    pub fn check<'a>(&self, inputs: impl IntoIterator<Item = &'a PathBuf>) -> anyhow::Result<()> {
        check_outlets(self.json.iter().chain(&self.svg), inputs)
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

/// Which file a path leads to, however it is written.
struct Place {
    whole: PathBuf,
    /// Device and number, where there is one.
    file: Option<(u64, u64)>,
    is_pipe: bool,
}

impl Place {
    fn of(path: &Path) -> Self {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let whole =
            fs::canonicalize(path).unwrap_or_else(|_| folder.join(path.file_name().unwrap_or_default()));
        let about = fs::metadata(path).ok();
        let is_pipe = about.as_ref().is_some_and(|about| about.file_type().is_fifo());
        Self { whole, file: about.map(|about| (about.dev(), about.ino())), is_pipe }
    }

    fn is(&self, other: &Self) -> bool {
        self.whole == other.whole || (self.file.is_some() && self.file == other.file)
    }
}

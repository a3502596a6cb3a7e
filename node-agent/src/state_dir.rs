//! The state directory: one agent at a time, files replaced whole.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use overcommit_host::more_files;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;

use crate::{control, failpoint, intake, journal, learned};

/// An empty file that says that the directory can be written.
const TRIED: &str = "writable";

/// So long may a socket's path be, with the zero at its end (`sun_path`, unix(7)).
const SUN_PATH: usize = 108;
/// Others than the owner may write.
const OTHERS_WRITE: u32 = 0o022;
/// Others than the owner may do anything.
const OTHERS: u32 = 0o077;
/// No file of it is larger. Orders are no larger than an object of the API server, 1.5 MiB (etcd, `--max-request-bytes`); a journal
/// has less than 1 KiB of each guest (names of at most 63 and 253 letters, two UUIDs, six numbers), and this is enough for
/// 8192 of them, many times what a node carries. More is nobody's file, and would lie in locked memory.
const MAX_BYTES: u64 = 8 << 20;

/// Refuses a directory in which nothing can be relied on. For the first start alone: what was fit then is no reason to leave
/// guests alone later.
///
/// # Errors
/// Why not, and what to do.
pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let socket = control::socket(path).as_os_str().len();
    ensure!(
        socket < SUN_PATH,
        "state directory {shown} is too long: the socket in it would have {socket} bytes, and {} is the most; name a \
         shorter one with --state-dir",
        SUN_PATH - 1
    );
    // One that is not there yet is made as it should be.
    let Ok(about) = fs::metadata(path) else { return Ok(()) };
    let (owner, own) = (about.uid(), geteuid().as_raw());
    ensure!(
        owner == 0 || owner == own,
        "state directory {shown} belongs to user {owner}, who could change what is to be given back: chown it to {own}, or \
         name another with --state-dir"
    );
    ensure!(
        about.mode() & OTHERS_WRITE == 0,
        "state directory {shown} can be written by others than its owner, who could change what is to be given back: \
         chmod go-w it, or name another with --state-dir"
    );
    if about.mode() & OTHERS != 0 {
        close(path, &about);
    }
    Ok(())
}

/// Closes the directory to others than its owner, if it holds nothing but what an agent keeps. Whoever may open it may lock it
/// (flock(2) asks for no right to write), and no agent would start.
fn close(path: &Path, about: &fs::Metadata) {
    let mine = fs::read_dir(path).and_then(|mut entries| {
        entries.try_fold(true, |mine, entry| entry.map(|entry| mine && keeps(&entry.path())))
    });
    let closed = match mine {
        Ok(true) => fs::set_permissions(path, fs::Permissions::from_mode(about.mode() & !OTHERS)),
        Ok(false) => Err(std::io::Error::other("it holds files of others")),
        Err(error) => Err(error),
    };
    if let Err(error) = closed {
        tracing::warn!(%error, dir = %path.display(), "others may open the state directory and lock the agent out: chmod go= it");
    }
}

/// Whether the agent keeps something of that name in its state directory.
pub(crate) fn keeps(path: &Path) -> bool {
    let named = |name: &str| path.file_name().is_some_and(|file| file == name);
    let set_aside = path.extension().is_some_and(|end| end == "corrupt" || end == "new");
    let socket = control::socket(path.parent().unwrap_or(path));
    [TRIED, journal::FILE, intake::FILE, learned::FILE].into_iter().any(named) || set_aside || socket == path
}

/// A locked state directory; the lock ends with the value.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// A file that could not be understood: it stands until it is replaced, and is kept under another name then.
    odd: Mutex<Option<&'static str>>,
    /// The folder itself: a lock file could not be made on a disk that became read-only.
    lock: File,
}

impl StateDir {
    /// Creates and locks the directory.
    ///
    /// # Errors
    /// When it cannot be written, unless an agent has worked there before: what it took is to be given back, and that
    /// needs no disk. When another agent holds it. The message says what to do.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("state directory {shown} cannot be created: name another with --state-dir")
        })?;
        let lock = File::open(path).with_context(|| format!("state directory {shown} cannot be opened"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).with_context(|| {
            // Of two agents with the same guests each takes what the other left them for what they had.
            format!(
                "another agent works with {shown}: stop it; another directory (--state-dir) is for the guests of another \
                 hypervisor (--connect) alone"
            )
        })?;
        let dir = Self { path: path.to_owned(), odd: Mutex::default(), lock };
        dir.remove_leftovers();
        if let Err(error) = dir.replace(TRIED, b"") {
            if !dir.has(journal::FILE) {
                let remedy = match error.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem => {
                        format!("{}, or ", refusal(&error).1)
                    }
                    _ => String::new(),
                };
                return Err(anyhow::Error::from(error).context(format!(
                    "state directory {shown} cannot be written, and without it nothing could be undone: \
                     {remedy}name another with --state-dir"
                )));
            }
            tracing::error!(%error, "the state directory cannot be written; what was taken is given back all the same");
        }
        Ok(dir)
    }

    /// What a predecessor did not live to finish, or what somebody put there before the lock was taken.
    fn remove_leftovers(&self) {
        for name in [TRIED, journal::FILE, intake::FILE, learned::FILE] {
            let leftover = self.fresh(name);
            match fs::remove_file(&leftover) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(%error, leftover = %leftover.display(), "cannot be removed");
                }
                _ => {}
            }
        }
    }

    /// Where a file is written before it replaces the old one.
    fn fresh(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.new"))
    }

    /// Replaces a file whole: after a crash either the old or the new content stands.
    ///
    /// # Errors
    /// When the disk is full or read-only, or the content is more than would be read again; the old content stands.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        if u64::try_from(content.len()).is_ok_and(|size| size > MAX_BYTES) {
            return Err(std::io::Error::new(ErrorKind::FileTooLarge, format!("more than {MAX_BYTES} bytes")));
        }
        let fresh = self.fresh(name);
        self.is_in_place()?;
        let written = write(&fresh, content)
            .and_then(|()| self.spare_odd(name))
            .and_then(|()| fs::rename(&fresh, self.path.join(name)));
        failpoint::reach("file-replaced");
        if written.is_err() {
            // What could be written of it takes space that is short.
            drop(fs::remove_file(&fresh));
        }
        written.and_then(|()| File::open(&self.path)?.sync_all())
    }

    /// The folder that is locked is the one that its name leads to: another agent may work in one that came in its place.
    fn is_in_place(&self) -> std::io::Result<()> {
        let (ours, there) = (self.lock.metadata()?, fs::metadata(&self.path)?);
        let is_ours = (ours.dev(), ours.ino()) == (there.dev(), there.ino());
        let why = || std::io::Error::new(ErrorKind::NotFound, "another folder is in its place");
        is_ours.then_some(()).ok_or_else(why)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of it is, for people.
    pub(crate) fn shown(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// There is such a file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// The content of a file; absent if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read, or is nothing that an agent wrote: a link, a pipe or a device, which may never
    /// end or never begin, or more than it ever writes.
    pub(crate) fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = match File::options().read(true).custom_flags(flags).open(self.path.join(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(std::io::Error::other("it is no regular file"));
        }
        let mut content = Vec::new();
        if about.len() <= MAX_BYTES {
            // It may grow.
            file.take(MAX_BYTES.saturating_add(1)).read_to_end(&mut content)?;
        }
        let size = about.len().max(u64::try_from(content.len()).unwrap_or(u64::MAX));
        if size > MAX_BYTES {
            return Err(std::io::Error::other(format!(
                "it has {size} bytes, and no agent writes more than {MAX_BYTES}"
            )));
        }
        Ok(Some(content))
    }

    /// Moves a file that cannot be understood aside, so that nothing is lost; says where it is now.
    pub(crate) fn set_aside(&self, name: &str) -> String {
        let aside = self.aside(name);
        let told = self.told(name, &aside);
        if let Err(error) = fs::rename(self.path.join(name), &aside) {
            tracing::warn!(%error, file = name, "cannot set a corrupt file aside");
        }
        told
    }

    /// The same, but not before it is replaced: until then it stands, so that whoever dies in between finds it again. Says
    /// where it will be.
    pub(crate) fn set_aside_when_replaced(&self, name: &'static str) -> String {
        *self.odd.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
        self.told(name, &self.aside(name))
    }

    /// Keeps what is about to be replaced under another name, if it could not be understood.
    fn spare_odd(&self, name: &str) -> std::io::Result<()> {
        let mut odd = self.odd.lock().unwrap_or_else(PoisonError::into_inner);
        if odd.is_none_or(|odd| odd != name) {
            return Ok(());
        }
        let (file, aside, second) = (self.path.join(name), self.aside(name), self.fresh("aside"));
        drop(fs::remove_file(&second));
        match fs::hard_link(&file, &second) {
            Ok(()) => {
                fs::rename(&second, &aside)?;
                // Of two names of one file neither replaces the other.
                drop(fs::remove_file(&second));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // No second name for a folder, or on this file system.
            Err(_) => fs::rename(&file, &aside)?,
        }
        *odd = None;
        Ok(())
    }

    /// Where a file goes that cannot be understood. The oldest is kept, which may be the only one that knows what guests had
    /// before all agents, and the newest; what was between them is not.
    fn aside(&self, name: &str) -> PathBuf {
        let oldest = self.path.join(format!("{name}.corrupt"));
        let which = |path: &Path| fs::symlink_metadata(path).ok().map(|about| (about.dev(), about.ino()));
        match which(&oldest) {
            None => oldest,
            there if there == which(&self.path.join(name)) => oldest,
            Some(_) => self.path.join(format!("{name}.newest.corrupt")),
        }
    }

    /// The same, for people.
    fn told(&self, name: &str, aside: &Path) -> String {
        let oldest = self.path.join(format!("{name}.corrupt"));
        if aside == oldest {
            aside.display().to_string()
        } else {
            format!("{}, and {} of an earlier time", aside.display(), oldest.display())
        }
    }
}

/// Why a disk refuses to write, and what to do, short enough for a condition.
pub(crate) fn refusal(error: &std::io::Error) -> (&'static str, &'static str) {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ("disk full", "free space there"),
        ErrorKind::ReadOnlyFilesystem => ("read-only", "remount it writable"),
        // A start with another folder would take what squeezed guests hold for all they had.
        ErrorKind::NotFound => {
            ("the folder is gone", "put it back, or end the agent by SIGINT, which gives everything back")
        }
        _ if more_files(error).is_some() => ("too many open files", "raise the agent's limit of them"),
        _ => ("refused", "see the agent's log"),
    }
}

fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    // Whatever stands there, nobody else's file is emptied through it.
    let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = File::options();
    options.create(true).truncate(true).write(true).mode(0o600).custom_flags(no_follow);
    let mut file = options.open(path)?;
    let (first, rest) = content.split_at(content.len() / 2);
    file.write_all(first)?;
    failpoint::reach("file-half-written");
    file.write_all(rest)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;

//! Child processes that die with the test bed, with everything below them, and leave a log to look into.
//!
//! Three nets: each child runs in a cgroup of its own, killed as a whole when the handle is dropped or by the guardian; it gets SIGKILL
//! when the thread that started it dies (hence one thread for all of them: a test's own thread ends with the test); and it can be put
//! into namespaces that vanish with it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::guardian::Pending;
use crate::wait::{Look, until};

/// Lines of a log that an error quotes.
const TAIL_LINES: usize = 25;

/// Enters the cgroup named by `$0`, then becomes the given command under the same process id.
const ENTER_CGROUP: &str = r#"echo 0 > "$0/cgroup.procs" && exec "$@""#;

/// The thread that starts processes.
#[derive(Debug)]
pub struct Spawner {
    requests: Sender<(Command, Sender<std::io::Result<Child>>)>,
}

impl Spawner {
    /// Starts the thread; it lives as long as this value.
    pub fn start() -> Result<Self> {
        let (requests, inbox) = channel::<(Command, Sender<std::io::Result<Child>>)>();
        let serve = move || {
            for (mut command, reply) in inbox {
                // Nobody waits for the answer any more: the child is ended by its cgroup.
                let _ = reply.send(command.spawn());
            }
        };
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(serve)
            .context("starting the spawner thread")?;
        Ok(Self { requests })
    }

    fn spawn(&self, command: Command) -> Result<Child> {
        let (reply, answer) = channel();
        self.requests.send((command, reply)).map_err(|_| anyhow!("the spawner thread is gone"))?;
        Ok(answer.recv().context("the spawner thread is gone")??)
    }
}

/// A process to be started.
#[derive(Debug)]
pub struct Launch {
    name: String,
    prefix: Vec<OsString>,
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    piped_stdin: bool,
    outlives_thread: bool,
}

impl Launch {
    /// A process; `name` appears in its log file's name and in errors.
    pub fn new(name: impl Into<String>, program: impl AsRef<OsStr>) -> Self {
        Self {
            name: name.into(),
            prefix: Vec::new(),
            command: vec![program.as_ref().to_owned()],
            environment: Vec::new(),
            folder: None,
            piped_stdin: false,
            outlives_thread: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Gives it a pipe as standard input, see [`Process::stdin`]; else it is empty.
    #[must_use]
    pub fn piped_stdin(mut self) -> Self {
        self.piped_stdin = true;
        self
    }

    /// Lets it live on when the session's thread dies, for a process that has something to do then.
    #[must_use]
    pub fn outlives_session_thread(mut self) -> Self {
        self.outlives_thread = true;
        self
    }

    /// Puts it into a mount namespace of its own, whose mounts the machine does not see.
    #[must_use]
    pub fn own_mounts(mut self) -> Self {
        self.prefix.extend(["unshare", "--mount", "--propagation", "private", "--"].map(OsString::from));
        self
    }

    /// Puts it into PID and mount namespaces of its own, as process 1 there. [`Process::pid`] is then that of its parent outside, with
    /// which it dies.
    #[must_use]
    pub fn own_pids_and_mounts(mut self) -> Self {
        let unshare = [
            "unshare",
            "--pid",
            "--mount",
            "--fork",
            "--kill-child=SIGKILL",
            "--mount-proc",
            "--propagation",
            "private",
            "--",
        ];
        self.prefix.extend(unshare.map(OsString::from));
        self
    }

    /// Runs it at a real-time priority (`SCHED_FIFO`).
    #[must_use]
    pub fn real_time(mut self, priority: u8) -> Self {
        self.prefix.extend(["chrt".into(), "--fifo".into(), priority.to_string().into()]);
        self
    }

    /// The name that was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn spawn(
        self,
        spawner: &Spawner,
        cgroup: PathBuf,
        log: PathBuf,
        kill: Pending,
    ) -> Result<Process> {
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = Command::new("sh");
        command.args(["-c", ENTER_CGROUP]).arg(&cgroup);
        if !self.outlives_thread {
            command.args(["setpriv", "--pdeathsig", "KILL", "--"]);
        }
        command.args(&self.prefix).args(&self.command).envs(self.environment);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(if self.piped_stdin { Stdio::piped() } else { Stdio::null() });
        command.stdout(output.try_clone()?).stderr(output);
        let mut child = spawner.spawn(command).with_context(|| format!("starting {}", self.name))?;
        let stdin = child.stdin.take();
        Ok(Process {
            name: self.name,
            pid: child.id(),
            log,
            cgroup,
            stdin,
            child: Mutex::new(child),
            _kill: kill,
        })
    }
}

/// A started process. Dropping it kills it and all its descendants.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    cgroup: PathBuf,
    stdin: Option<ChildStdin>,
    child: Mutex<Child>,
    _kill: Pending,
}

impl Process {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its standard output and errors.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Everything it has written so far.
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Where the log is, and its last lines, for errors.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    /// Its standard input, where one was asked for. Taking it and dropping it closes it.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// All processes that descend from it, itself included.
    pub fn members(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.cgroup.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().with_context(|| format!("asking for the state of {}", self.name))
    }

    /// Sends a signal to the process itself, not to its descendants.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!("{} has already ended ({status}); {}", self.name, self.log_tail());
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Waits for it to end by itself.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        let look = || self.ended().and_then(|ended| ended.context("still running"));
        until(limit, format!("the end of {}", self.name), look).with_context(|| self.log_tail())
    }

    /// Asks it to end (SIGTERM) and waits.
    pub fn terminate(&self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Waits until it serves; fails at once when it ends instead, with the end of its log.
    pub fn ready<L: Look>(
        &self,
        limit: Duration,
        what: &str,
        mut look: impl FnMut() -> L,
    ) -> Result<L::Ready> {
        let looked = until(limit, format!("{what} of {}", self.name), || match self.ended() {
            Ok(None) => look().seen().map(Ok),
            Ok(Some(status)) => Ok(Err(anyhow!("{} ended with {status} before {what}", self.name))),
            Err(error) => Ok(Err(error)),
        });
        looked.flatten().with_context(|| self.log_tail())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Ends it before its cgroup is asked to go; a process that is already gone is fine.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Where a log is, and its last lines.
pub fn log_tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    // Reports for programs are long, many, and between what people are told.
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('{')).collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n  ");
    format!("the log {} ends with:\n  {tail}", log.display())
}

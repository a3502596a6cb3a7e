//! The second small process: it runs the loop as its child and looks after it. A loop that dies is started anew at once,
//! one that hangs is ended first, and one that keeps failing hands its guests over before it is given a rest.
//!
//! It does nothing else: it reads no guest and no API, so that little can bring it down. A policy file it reads once and does
//! not understand: each loop follows what people started the agent with, whatever becomes of the file. Its memory is
//! locked like the loop's. When it is gone, the loop notices (`kept`) and hands over. What it cannot outlive is an
//! out-of-memory kill in a container whose `memory.oom.group` the kubelet has set: that ends both, and the kubelet starts
//! them anew.

mod judge;

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::args::{Only, Run};
use crate::kept::Beat;
use crate::policy_file;
use crate::resident;
use crate::run::{Failure, telemetry};
use crate::signals::{Asked, NOT_SHORTER, Signals};
pub(crate) use judge::{BEGINS_WITHIN, SLACK};
use judge::{Ended, Judge, Next, Watch};

/// How often it looks whether the loop is late.
const LOOK: Duration = Duration::from_secs(1);
/// A loop that was killed ends within this time, unless the kernel holds it; then it is tried again later.
const KILLED_BY: Duration = Duration::from_secs(10);
/// A loop that does one thing alone may take so long: connecting, a turn, and its own patience (`tick`).
const HAND_OVER: Duration = Duration::from_secs(30);
const RELEASE: Duration = Duration::from_secs(100);
/// Who kills a process, for people.
const BY_WHOM: &str = ", by somebody or by the kernel for want of memory (`dmesg` tells)";

/// `overcommit-agent run`, kept.
pub(crate) fn run(args: &Run) -> Result<(), Failure> {
    // The loop tells: it has the same limits.
    let _ = resident::claim(resident::Process::Keeper);
    let log = telemetry(&args.log)?;
    let policy = args.policy.as_deref().map(policy_file::keep).transpose().map_err(Failure::bad_input)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(e.into()))?;
    let code = runtime.block_on(async { Keeper::new(policy)?.keep().await }).map_err(Failure::failed)?;
    drop(log.guard);
    if code == 0 { Ok(()) } else { Err(Failure::told(code)) }
}

struct Keeper {
    program: PathBuf,
    judge: Judge,
    signals: Signals,
    /// What the policy file held; absent in a cluster.
    policy: Option<OwnedFd>,
    /// What an interrupt asks for: Ctrl-C on a host without Kubernetes releases.
    on_interrupt: Only,
    /// Everything was asked back of a loop: its successors take nothing either.
    released: bool,
}

/// What a loop is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// To control.
    Control,
    /// To hand over before a rest.
    HandOver,
    /// To do what the last loop was told to do and did not live to do.
    Last(Only),
}

/// A loop that runs.
struct Running {
    child: Child,
    beats: UnixStream,
    watch: Watch,
    /// What it was told to do and to end, if so.
    told: Option<Only>,
    /// Why its keeper ended it, if so.
    hung: Option<String>,
    released: bool,
    /// When it has to have ended; absent while it may run on.
    deadline: Option<Instant>,
}

impl Keeper {
    fn new(policy: Option<OwnedFd>) -> anyhow::Result<Self> {
        Ok(Self {
            program: program(),
            judge: Judge::default(),
            signals: Signals::new()?,
            on_interrupt: if policy.is_some() { Only::Release } else { Only::HandOver },
            policy,
            released: false,
        })
    }

    /// Keeps the loop until it is meant to end; returns the exit code.
    async fn keep(&mut self) -> anyhow::Result<u8> {
        let mut next = Next::Start;
        loop {
            next = match next {
                Next::End(code) => return Ok(code),
                Next::Start => self.run_once(Errand::Control).await?,
                Next::HandOver => self.run_once(Errand::HandOver).await?,
                Next::Last(what) => self.run_once(Errand::Last(what)).await?,
                Next::Rest { time, handed_over } => self.rest(time, handed_over).await,
            };
        }
    }

    /// Waits before the next start.
    async fn rest(&mut self, time: Duration, handed_over: bool) -> Next {
        let seconds = time.as_secs();
        if handed_over {
            tracing::error!(seconds, "the loop keeps failing: it handed over and rests");
        } else {
            tracing::error!(seconds, "the loop keeps failing and could not hand over: it rests");
        }
        let asked = tokio::select! {
            () = sleep(time) => return Next::Start,
            asked = self.signals.next() => self.meaning(asked),
        };
        match asked {
            Only::HandOver if handed_over => Next::End(0),
            asked => Next::Last(asked),
        }
    }

    fn meaning(&self, asked: Asked) -> Only {
        match asked {
            Asked::HandOver => Only::HandOver,
            Asked::Interrupt => self.on_interrupt,
        }
    }

    /// Runs a loop until it ends.
    async fn run_once(&mut self, errand: Errand) -> anyhow::Result<Next> {
        let began = Instant::now();
        let (ended, told) = match self.start(errand) {
            Ok(mut running) => {
                let status = self.attend(&mut running, matches!(errand, Errand::Last(_))).await?;
                self.released |= running.released;
                let hung = running.hung.take();
                (Ended::of(status, hung, running.told.is_some(), running.watch.has_beaten()), running.told)
            }
            Err(error) => {
                tracing::error!(%error, "the loop cannot be started");
                (Ended::NotStarted, None)
            }
        };
        let next = match (errand, told) {
            (Errand::Last(_), _) => Next::End(ended.code()),
            (_, Some(what)) if !ended.is_meant() => Next::Last(what),
            (_, Some(_)) => Next::End(ended.code()),
            (Errand::HandOver, None) => self.judge.handed_over(&ended),
            (Errand::Control, None) => self.judge.ended(&ended, began, Instant::now()),
        };
        // Whoever refuses to start at all has said why.
        let refused = ended == Ended::Refused && errand == Errand::Control && matches!(next, Next::End(_));
        if !ended.is_meant() && !refused {
            tracing::error!(?errand, "the loop ended: {ended}");
        }
        Ok(next)
    }

    fn start(&self, errand: Errand) -> anyhow::Result<Running> {
        let (ours, theirs) = UnixStream::pair().context("no socket for its beats")?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&self.program);
        command.args(std::env::args_os().skip(1)).arg("--kept").kill_on_drop(true);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        if let Some(why) = self.judge.last_failure() {
            command.arg(format!("--restarted={why}"));
        }
        if self.released {
            command.arg("--released");
        }
        command.args(self.policy.as_ref().map(|kept| format!("--policy-kept={}", kept.as_raw_fd())));
        let alone = match errand {
            Errand::Control => None,
            Errand::HandOver | Errand::Last(Only::HandOver) => Some(("--only=hand-over", HAND_OVER)),
            Errand::Last(Only::Release) => Some(("--only=release", RELEASE)),
        };
        command.args(alone.map(|(argument, _)| argument));
        let child = command.spawn().with_context(|| self.program.display().to_string())?;
        let now = Instant::now();
        let deadline = alone.map(|(_, patience)| now + patience);
        Ok(Running {
            child,
            beats: ours,
            watch: Watch::new(now),
            told: None,
            hung: None,
            released: false,
            deadline,
        })
    }

    /// Waits for the loop's end, passes signals on, and ends it when it hangs; `ending` if it was started to end.
    async fn attend(&mut self, running: &mut Running, ending: bool) -> anyhow::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = running.child.wait() => return Ok(status?),
                asked = self.signals.next() => if ending || running.told.is_some() {
                    tracing::warn!("{NOT_SHORTER}");
                } else {
                    running.pass_on(self.meaning(asked));
                },
                () = sleep(LOOK) => if let Some(why) = running.hangs() {
                    tracing::error!("the loop {why}: it is ended and started anew");
                    running.hung = Some(why);
                    running.kill().await?;
                },
            }
        }
    }
}

impl Running {
    fn pass_on(&mut self, meaning: Only) {
        self.told = Some(meaning);
        let what = match meaning {
            Only::HandOver => Signal::TERM,
            Only::Release => Signal::INT,
        };
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, what)) {
            tracing::warn!(%error, "the loop cannot be told to stop");
        }
    }

    /// Why it has to be ended, if so.
    fn hangs(&mut self) -> Option<String> {
        let now = Instant::now();
        let mut beat = [0; Beat::SIZE];
        while self.beats.read_exact(&mut beat).is_ok() {
            let beat = Beat::from_bytes(beat);
            self.watch.beat(beat.back_within, now);
            self.released |= beat.released;
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Some("did not end in time".to_owned());
        }
        self.watch
            .late(now)
            .map(|late| format!("has not turned for {} s longer than it said", late.as_secs()))
    }

    /// Ends it; fails when the kernel holds it.
    async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.start_kill()?;
        match tokio::time::timeout(KILLED_BY, self.child.wait()).await {
            Ok(ended) => ended.map(drop).context("waiting for the loop's end"),
            // The container's end is the last means: the kubelet starts it anew.
            Err(_) => Err(anyhow!("the loop was killed and does not end: the kernel holds it")),
        }
    }
}

/// This program; its file may have been replaced since it started.
fn program() -> PathBuf {
    let named = std::env::current_exe().ok().filter(|path| path.exists());
    named.unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

impl Ended {
    /// `hung` if its keeper ended it for that, `told` if it was to end.
    fn of(status: ExitStatus, hung: Option<String>, told: bool, has_beaten: bool) -> Self {
        match (status.code(), status.signal(), hung) {
            (Some(code), ..) if told => Self::Told(u8::try_from(code).unwrap_or(1)),
            (Some(0), ..) => Self::Told(0),
            (Some(2), ..) if !has_beaten => Self::Refused,
            (Some(code), ..) => Self::Failed(format!("it ended with exit code {code}")),
            (None, _, Some(why)) => Self::Failed(format!("it {why}, and was ended for that")),
            (None, signal, None) => {
                let signal = signal.unwrap_or_default();
                let by = if signal == Signal::KILL.as_raw() { BY_WHOM } else { "" };
                Self::Failed(format!("it was ended by signal {signal}{by}"))
            }
        }
    }
}

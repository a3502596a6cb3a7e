//! The main road as an administrator walks it: install, observe, enforce, explain, upgrade, delete, uninstall, on real
//! Kubernetes with real KubeVirt. The demonstration and the test walk this one road; whatever must hold on the way is
//! checked here, so that neither shows what is not so.

mod commands;
mod life;
mod steps;
mod summary;

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use jiff::Timestamp;
use overcommit_core::units::Bytes;
use serde_json::Value;

use crate::node::Cluster;
use crate::parts::told;
use crate::screen::Screen;
use crate::table::{Report, Row, table};
use crate::wait;

pub use commands::BalloonCommand;
pub use life::Upgrade;
pub use summary::Summary;

/// Full size of each guest.
pub const SIZE_MIB: u64 = 1024;
/// The guests' names.
pub const GUESTS: [&str; 3] = ["idle", "worker", "opted-out"];
/// Namespace of the release.
const NAMESPACE: &str = "overcommit";
/// Boot grace, a take per statistics, and the spacing of status writes.
const PATIENCE: Duration = Duration::from_mins(8);
/// How often the agent or its status is asked: each time is a kubectl.
const LOOKED: Duration = Duration::from_millis(500);
/// How often the table is drawn while something is awaited.
const DRAWN: Duration = Duration::from_secs(1);

/// A cluster on its way.
#[derive(Debug)]
pub struct Road<'a> {
    cluster: &'a Cluster,
    screen: &'a Screen,
    begun: Instant,
}

impl<'a> Road<'a> {
    /// A road on this cluster, shown there; time is counted from `begun`.
    pub fn new(cluster: &'a Cluster, screen: &'a Screen, begun: Instant) -> Self {
        Self { cluster, screen, begun }
    }

    /// Walks from the installation to the point where the policy is gone and every guest has its memory back. The
    /// release and the guests stay.
    ///
    /// # Errors
    /// The first step that does not do what it should.
    pub fn walk(&self) -> Result<Summary> {
        self.install()?;
        self.start_guests()?;
        self.observe()?;
        let squeeze = self.squeeze()?;
        self.plan(&squeeze)?;
        let applied = Timestamp::now();
        let within_budget = self.enforce(&squeeze)?;
        let moved = self.watch_memory_move()?;
        self.explain()?;
        let commands = self.commands_since(applied)?;
        let upgrade = self.upgrade()?;
        let valve = squeeze.opened();
        ensure!(valve.is_none(), "memory was so short that the valve gave it back: {valve:?}");
        let given_back = self.give_back(squeeze)?;
        let first = commands.first().context("the agent's log has no balloon command")?;
        let first_command = first.at.duration_since(applied).unsigned_abs();
        Ok(Summary { first_command, within_budget, commands, moved, upgrade, given_back, valve })
    }

    /// What a guest really holds, by its own libvirt, in MiB.
    ///
    /// # Errors
    /// When its launcher cannot be asked.
    pub fn actual_mib(&self, name: &str) -> Result<u64> {
        self.held(name)?.mib()
    }

    fn step(&self, title: &str, why: &str) {
        self.screen.heading(&format!("{:>4} s  {title}", self.begun.elapsed().as_secs()));
        self.screen.say(&format!("  {why}"));
    }

    fn saw(&self, what: &str) {
        self.screen.say(&format!("  → {what}"));
    }

    /// Shows a command and what came back.
    fn ran(&self, command: &str, output: &str) {
        self.screen.say(&format!("  $ {command}"));
        output.lines().for_each(|line| self.screen.say(&format!("    {line}")));
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.meanwhile(&format!("kubectl {}", args.join(" ")), || self.cluster.kubectl(args))?;
        self.ran(&format!("kubectl {}", args.join(" ")), &output);
        Ok(output)
    }

    /// Does something that takes its time, and shows the table until it is done.
    fn meanwhile<T: Send>(&self, what: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let begun = Instant::now();
        let mut drawn = false;
        let done = std::thread::scope(|scope| {
            let (done, awaited) = channel::<()>();
            let worker = scope.spawn(move || {
                // Its end wakes the drawing side, however the work ends.
                let _done = done;
                work()
            });
            while awaited.recv_timeout(DRAWN) == Err(RecvTimeoutError::Timeout) {
                self.screen.show(self.table(), &format!("  … {}, {what}", told(begun.elapsed())));
                drawn = true;
            }
            worker.join().unwrap_or_else(|_| Err(anyhow!("{what}: panicked")))
        });
        if drawn {
            self.screen.show(self.table(), "");
            self.screen.settle();
        }
        done
    }

    /// Waits for a report of the agent that satisfies `so`, and shows the table.
    fn wait_report(&self, what: &str, so: impl Fn(&Report) -> bool + Sync) -> Result<Report> {
        self.meanwhile(&format!("waiting for {what}"), || {
            wait::until_paced(PATIENCE, LOOKED, what, || {
                let report = self.report()?;
                ensure!(so(&report), "{}", report.lines().join("\n"));
                Ok::<_, anyhow::Error>(report)
            })
        })
    }

    /// Waits until the node's status says something, and shows the table.
    fn wait_status(&self, what: &str, so: impl Fn(&Value) -> bool + Sync) -> Result<Value> {
        self.meanwhile(&format!("waiting for {what}"), || {
            wait::until_paced(PATIENCE, LOOKED, what, || {
                let listed = self.cluster.kubectl(&["get", "noc", "--output=json"])?;
                let listed: Value = serde_json::from_str(&listed)?;
                let status = listed.pointer("/items/0/status").context("no status yet")?;
                ensure!(so(status), "{status}");
                Ok::<_, anyhow::Error>(status.clone())
            })
        })
    }

    /// What the agent knows now.
    fn report(&self) -> Result<Report> {
        let agent = ["exec", "daemonset/overcommit-agent", "--", "overcommit-agent"];
        let words = ["status", "--output", "json"];
        let args = [["--namespace", NAMESPACE].as_slice(), &agent, &words].concat();
        Report::read(&self.cluster.kubectl(&args)?)
    }

    /// The agent's table; before and after its time, the guests as KubeVirt lists them.
    fn table(&self) -> Vec<String> {
        let known = self.report().ok().filter(|report| !report.guests.is_empty());
        known.map_or_else(|| self.listed().map(|rows| table(&rows)).unwrap_or_default(), |r| r.lines())
    }

    fn listed(&self) -> Option<Vec<Row>> {
        let listed = self.cluster.kubectl(&["get", "vmi", "--output=json"]).ok()?;
        let listed: Value = serde_json::from_str(&listed).ok()?;
        let items = listed.get("items")?.as_array().filter(|items| !items.is_empty())?;
        let text = |item: &Value, at: &str| item.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let row = |item: &Value| Row {
            name: format!("default/{}", text(item, "/metadata/name").unwrap_or_default()),
            full: Bytes::from_mib(SIZE_MIB),
            why: text(item, "/status/phase").unwrap_or_else(|| "no phase yet".to_owned()),
            ..Row::default()
        };
        Some(items.iter().map(row).collect())
    }

    /// Balloon commands since then, as the log of the first agent tells them.
    fn commands_since(&self, since: Timestamp) -> Result<Vec<BalloonCommand>> {
        let log = self.cluster.kubectl(&["--namespace", NAMESPACE, "logs", "daemonset/overcommit-agent"])?;
        let mut commands = BalloonCommand::read_log(&log);
        commands.retain(|command| command.at >= since);
        Ok(commands)
    }
}

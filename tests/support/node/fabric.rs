//! The network of a cluster: a namespace of its own in which the control plane, the nodes' daemons and the pods'
//! bridge live, and one cable to the machine. When the namespace's process ends, cable and namespace are gone.

use crate::api::SERVICE_ADDRESS;
use crate::guardian::Pending;
use crate::parts::command;
use crate::process::{Launch, Process};
use crate::session::Session;
use crate::undo::Undo;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The bridge that pods are plugged into.
pub(super) const BRIDGE: &str = "pods0";
/// The cluster's end of the cable.
const UPLINK: &str = "machine0";
/// How many clusters one machine holds at a time: each has subnets of its own.
const CLUSTERS: u8 = 32;

/// A cluster's network.
#[derive(Debug)]
pub(super) struct Fabric {
    index: u8,
    // Dropped in this order.
    holder: Process,
    link: Pending,
}

impl Fabric {
    /// Makes the namespace and plugs the cable in.
    pub(super) fn start() -> Result<Self> {
        let session = Session::shared()?;
        let hold = Launch::new("network", "unshare").args(["--net", "--", "sleep", "infinity"]);
        let holder = session.spawn(hold)?;
        let own = fs::read_link("/proc/self/ns/net").context("/proc/self/ns/net")?;
        let theirs = format!("/proc/{}/ns/net", holder.pid());
        holder.ready(Duration::from_mins(1), "network namespace", || {
            fs::read_link(&theirs).is_ok_and(|link| link != own && is_sleep(holder.pid()))
        })?;
        let (index, link) = plug(session, holder.pid())?;
        let fabric = Self { index, holder, link };
        fabric.configure().context("setting up the cluster's network")?;
        Ok(fabric)
    }

    /// Path of the network namespace.
    pub(super) fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.pid()))
    }

    /// The cluster's address on the cable.
    pub(super) fn address(&self) -> String {
        format!("10.88.{}.2", self.index)
    }

    /// Address of a host on the pods' bridge; 1 is the gateway, the nodes follow.
    pub(super) fn on_bridge(&self, host: u8) -> String {
        format!("10.89.{}.{host}", self.index)
    }

    /// The pods' subnet.
    pub(super) fn pod_subnet(&self) -> String {
        format!("10.89.{}.0/24", self.index)
    }

    /// Unplugs the cable and ends the namespace.
    pub(super) fn stop(self) -> Result<()> {
        drop(self.holder);
        self.link.undo()
    }

    /// Gives the bridge one more address.
    pub(super) fn add_bridge_address(&self, host: u8) -> Result<()> {
        self.inside(&["address", "add", &format!("{}/24", self.on_bridge(host)), "dev", BRIDGE])
    }

    fn configure(&self) -> Result<()> {
        let inside = [
            vec!["link", "set", "lo", "up"],
            vec!["address", "add", SERVICE_ADDRESS, "dev", "lo"],
            vec!["link", "add", BRIDGE, "type", "bridge"],
            vec!["link", "set", BRIDGE, "up"],
            vec!["link", "set", UPLINK, "up"],
        ];
        for args in inside {
            self.inside(&args)?;
        }
        self.add_bridge_address(1)?;
        self.inside(&["address", "add", &format!("{}/30", self.address()), "dev", UPLINK])?;
        // Pods answer the machine through the bridge's address.
        let mut forward = Command::new("nsenter");
        forward.arg(format!("--net={}", self.netns().display()));
        command::output(forward.args(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))?;
        let name = link_name(self.index);
        let address = format!("10.88.{}.1/30", self.index);
        ip(&["address", "add", &address, "dev", &name])?;
        ip(&["link", "set", &name, "up"])?;
        ip(&["route", "add", &self.pod_subnet(), "via", &self.address()])
    }

    fn inside(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.netns().display())).arg("ip").args(args);
        command::output(&mut command).map(|_| ())
    }
}

// The namespace has other contents until the last exec is done.
fn is_sleep(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
}

/// Takes the first free number: making the link is what takes it.
fn plug(session: &Session, pid: u32) -> Result<(u8, Pending)> {
    let mut last = None;
    for index in 0..CLUSTERS {
        let name = link_name(index);
        if fs::exists(format!("/sys/class/net/{name}")).unwrap_or(true) {
            continue;
        }
        let made =
            ip(&["link", "add", &name, "type", "veth", "peer", "name", UPLINK, "netns", &pid.to_string()]);
        match made {
            // Registered afterwards, else a failed attempt would take away another cluster's link; should this
            // process die in between, the link goes with the namespace.
            Ok(()) => return Ok((index, session.undo_later(Undo::RemoveLink(name))?)),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error),
        None => bail!("{CLUSTERS} clusters run already (links {}…): end some", link_name(0)),
    }
}

fn link_name(index: u8) -> String {
    format!("ovc-net{index}")
}

fn ip(args: &[&str]) -> Result<()> {
    command::output(Command::new("ip").args(args)).map(|_| ())
}

//! The command line (design §11): the only place that reads arguments or environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Drives the memory of one node's guests by policy.
#[derive(Debug, Parser)]
#[command(name = "overcommit-agent", version, about)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the control loop.
    Run(Box<Run>),
    /// Show what the running agent knows and did.
    Status(Ask),
    /// Say why one guest has the memory it has.
    Explain(Explain),
    /// Make the running agent give everything back, and wait for it.
    Release(Ask),
    /// Look at policies in MOM's language, or try them.
    #[command(subcommand)]
    Policy(Policy),
}

/// What is done with programs (docs/mom.md).
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Say what is wrong with a program, and what is probably not meant; exit code 1 if something is wrong.
    Check(Programs),
    /// Evaluate a program once, and print what it comes to.
    Eval(Eval),
    /// Print what the program of the running agent's policy saw in its last cycle, as `eval --input` takes it; as json also what
    /// it said.
    Input(Ask),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Programs {
    /// The files of one program, in the order in which they are joined.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Eval {
    /// The host and its guests as JSON; without it there is a host without data, and no guest.
    #[arg(long, value_name = "IN.json")]
    pub(crate) input: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) programs: Programs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For programs.
    Json,
}

#[derive(Debug, ClapArgs)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["policy", "node"])))]
pub(crate) struct Run {
    /// Without Kubernetes: a file with one OvercommitPolicy, as for kubectl apply.
    #[arg(long, value_name = "FILE", requires = "connect")]
    pub(crate) policy: Option<PathBuf>,
    /// Without Kubernetes: the hypervisor, such as `qemu:///system`.
    #[arg(long, value_name = "URI", requires = "policy", value_parser = hypervisor)]
    pub(crate) connect: Option<String>,
    /// In a cluster: this node's name; the loop follows the NodeOvercommit of that name.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub(crate) node: Option<String>,
    /// Where originals, the lock, the last orders and the socket are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/overcommit", env = "OVERCOMMIT_STATE_DIR")]
    pub(crate) state_dir: PathBuf,
    /// Serve /metrics, /healthz and /readyz here; nowhere when left out.
    #[arg(long, value_name = "ADDR:PORT", env = "OVERCOMMIT_HTTP", value_parser = overcommit_serve::address)]
    pub(crate) http: Option<SocketAddr>,
    /// Record everything that decisions rest on, and the decisions: two files of up to 64 MiB, FILE and FILE.1, for `replay`.
    #[arg(long, value_name = "FILE", env = "OVERCOMMIT_RECORD")]
    pub(crate) record: Option<PathBuf>,
    /// json prints one line per turn on standard output.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// What to log, such as `info` or `overcommit_agent=debug`.
    #[arg(long, default_value = "info", env = "OVERCOMMIT_LOG")]
    pub(crate) log: String,
    /// Run the loop without the second process that starts it anew when it dies or hangs: something else does.
    #[arg(long)]
    pub(crate) unattended: bool,
    /// Said by the keeper: this is the loop, and standard input leads to the keeper.
    #[arg(long, hide = true, conflicts_with = "unattended")]
    pub(crate) kept: bool,
    /// Said by the keeper: the descriptor of what it has read from the policy file.
    #[arg(long, hide = true, value_name = "FD", requires = "policy")]
    pub(crate) policy_kept: Option<u32>,
    /// Said by the keeper: do this and end, nothing else.
    #[arg(long, hide = true, value_enum)]
    pub(crate) only: Option<Only>,
    /// Said by the keeper: everything was asked back of the loop before this one.
    #[arg(long, hide = true)]
    pub(crate) released: bool,
    /// Said by the keeper: how the loop before this one ended.
    #[arg(long, hide = true, value_name = "WHY")]
    pub(crate) restarted: Option<String>,
    /// Die, stop or panic at a named point: POINT=ACTION, with *N for the Nth time, *N+ from then on. In debug builds alone.
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, env = "OVERCOMMIT_FAIL_AT", value_delimiter = ',')]
    pub(crate) fail_at: Vec<crate::failpoint::Order>,
    /// Hear a lie of a guest: GUEST=gives|hurts|contradicts. In debug builds alone.
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, env = "OVERCOMMIT_LIE", value_delimiter = ',')]
    pub(crate) lie: Vec<crate::liar::Lie>,
}

impl Run {
    /// Whether people started it just now: then what cannot work is refused, and they see it. A loop that is started anew
    /// works with what there is.
    pub(crate) fn is_first(&self) -> bool {
        self.restarted.is_none() && self.only.is_none()
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Ask {
    /// The state directory of the running agent.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/overcommit", env = "OVERCOMMIT_STATE_DIR")]
    pub(crate) state_dir: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Explain {
    /// The guest: NAMESPACE/NAME in a cluster, the domain's name elsewhere.
    #[arg(value_parser = guest)]
    pub(crate) guest: String,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What a loop is started for when it is not to control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    /// Make guests safe for a time without a loop.
    HandOver,
    /// Give everything back.
    Release,
}

/// A name that can be asked for: the question is one line.
fn guest(name: &str) -> Result<String, String> {
    let name = name.trim();
    if name.is_empty() || name.contains('\n') {
        return Err("no guest's name: `overcommit-agent status` shows those that there are".to_owned());
    }
    Ok(name.to_owned())
}

/// A connection to QEMU by libvirt's rules (`driver[+transport]://…`, <https://libvirt.org/uri.html>; the driver knows three
/// paths, <https://libvirt.org/drvqemu.html>), or to libvirt's own driver for tests. No other has balloons that report.
fn hypervisor(uri: &str) -> Result<String, String> {
    let (scheme, rest) = uri.split_once("://").ok_or("no libvirt URI: write one such as qemu:///system")?;
    let path = rest.find('/').and_then(|at| rest.get(at..)).and_then(|path| path.split(['?', '#']).next());
    match (scheme.split('+').next(), path) {
        (Some("qemu"), Some("/system" | "/session" | "/embed")) | (Some("test"), _) => Ok(uri.to_owned()),
        (Some("qemu"), path) => Err(format!(
            "{:?} leads to no guests: after the host write /system, /session or /embed, such as qemu:///system",
            path.unwrap_or_default()
        )),
        _ => Err("only guests of QEMU can be driven: write a URI such as qemu:///system".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_without_a_name_is_no_question() {
        let explained = |name: &str| Args::try_parse_from(["overcommit-agent", "explain", name]);
        for none in ["", " ", "a\nb"] {
            let told = explained(none).unwrap_err().to_string();
            assert!(told.contains("no guest's name") && told.contains("status"), "{none:?}: {told}");
        }
        match explained(" shop/web ").unwrap().command {
            Command::Explain(explain) => assert_eq!(explain.guest, "shop/web"),
            other => panic!("{other:?}"),
        }
    }
}

//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Reconciles `OvercommitPolicy` objects into one `NodeOvercommit` per node.
#[derive(Debug, Parser)]
#[command(name = "overcommit-operator", version, about)]
pub(crate) struct Cli {
    /// What to log, as tracing filters are written: info, debug, or `overcommit_operator=debug,kube=warn`.
    #[arg(long, env = "OVERCOMMIT_LOG", default_value = "info", global = true)]
    pub(crate) log: String,
    /// How log lines are written.
    #[arg(long, env = "OVERCOMMIT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub(crate) log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the operator until it is told to end.
    Run(RunArgs),
    /// Print the `CustomResourceDefinitions` as YAML.
    Crds,
    /// Delete every `OvercommitPolicy` and wait until all nodes have given everything back; exit 1 names those that
    /// have not in time. The operator and the agents must be running.
    Release(ReleaseArgs),
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "OVERCOMMIT_HTTP", default_value = "0.0.0.0:8080", value_parser = overcommit_serve::address)]
    pub(crate) http: SocketAddr,
    /// How long the deletion of a policy waits for its nodes to give everything back.
    #[arg(long, env = "OVERCOMMIT_RELEASE_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub(crate) release_timeout: Duration,
    /// Where ConfigMaps are that policies name. Left out: the namespace of the pod, or of the kubeconfig's context.
    #[arg(long, env = "OVERCOMMIT_NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

/// Arguments of `release`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// How long to wait.
    #[arg(long, env = "OVERCOMMIT_TIMEOUT", default_value = "5m", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// A duration such as `10m`, `90s` or `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration: write 90s, 10m or 1h30m");
    let span: jiff::SignedDuration = text.parse().map_err(|_| bad())?;
    Duration::try_from(span).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["overcommit-operator", "run"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("{cli:?}") };
        assert_eq!(run.release_timeout, Duration::from_mins(10));
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        for bad in ["", "5", "-5m", "soon"] {
            assert!(duration(bad).unwrap_err().contains("write 90s"), "{bad}");
        }
    }
}

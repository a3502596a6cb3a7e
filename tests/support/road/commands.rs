//! What the agent did to balloons, as its log tells it.

use jiff::Timestamp;

/// One balloon command.
#[derive(Clone, Debug, PartialEq)]
pub struct BalloonCommand {
    /// When it was done.
    pub at: Timestamp,
    /// `namespace/name`.
    pub guest: String,
    /// Target before, in MiB.
    pub from: f64,
    /// Target after, in MiB.
    pub to: f64,
}

impl BalloonCommand {
    /// Reads the agent's log, which has a line for each:
    /// `TIME  INFO overcommit_agent::report: balloon guest="default/idle" from=512.0 MiB to=460.8 MiB reason="TakeUnused"`.
    pub fn read_log(log: &str) -> Vec<Self> {
        log.lines().filter_map(Self::read).collect()
    }

    fn read(line: &str) -> Option<Self> {
        let (head, told) = line.split_once(" balloon guest=\"")?;
        let (guest, told) = told.split_once("\" from=")?;
        let (from, told) = told.split_once(" to=")?;
        let (to, _) = told.split_once(" reason=")?;
        let at = head.split_whitespace().next()?.parse().ok()?;
        Some(Self { at, guest: guest.to_owned(), from: mib(from)?, to: mib(to)? })
    }

    /// What it took, in MiB; negative when it gave.
    pub fn taken(&self) -> f64 {
        self.from - self.to
    }
}

/// A size as the agent writes it.
fn mib(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once(' ')?;
    let number: f64 = number.parse().ok()?;
    match unit {
        "GiB" => Some(number * 1024.0),
        "MiB" => Some(number),
        "KiB" => Some(number / 1024.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"2026-01-02T03:04:05.250000Z  INFO overcommit_agent::tick: orders policy="pool" revision="r" mode=Enforce
2026-01-02T03:04:06.750000Z  INFO overcommit_agent::report: balloon guest="default/idle" from=1.0 GiB to=960.5 MiB reason="TakeUnused"
2026-01-02T03:04:08.000000Z  INFO overcommit_agent::report: balloon guest="default/busy" from=300.0 MiB to=420.0 MiB reason="GiveNeed"
2026-01-02T03:04:09.000000Z  WARN overcommit_agent::report: balloon not set guest="default/busy" to=420.0 MiB why="gone"
"#;

    #[test]
    fn the_log_says_when_who_from_what_to_what() {
        let commands = BalloonCommand::read_log(LOG);
        let told: Vec<_> = commands.iter().map(|c| (c.guest.as_str(), c.taken())).collect();
        assert_eq!(told, [("default/idle", 63.5), ("default/busy", -120.0)]);
        assert_eq!(commands[0].at, "2026-01-02T03:04:06.75Z".parse().unwrap());
    }
}

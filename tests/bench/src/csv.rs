//! A line for each window, for spreadsheets.

use crate::outcome::Outcome;

const HEADS: [&str; 28] = [
    "scenario",
    "controller",
    "seed",
    "round",
    "build",
    "void",
    "work_per_s",
    "unit",
    "p95_ms",
    "p99_ms",
    "pace",
    "steal_percent",
    "guests",
    "unhurt",
    "kills",
    "livelock_s",
    "controller_died",
    "least_by_mean",
    "host_swap_mib",
    "merged_mib",
    "ksmd_cpu_s",
    "takes",
    "gives",
    "cpu_s",
    "memory_mib",
    "libvirt_cpu_s",
    "qemu_cpu_s",
    "took_s",
];

/// All windows. What is not known is empty.
pub(crate) fn csv(outcomes: &[Outcome]) -> String {
    let mut text = HEADS.join(",") + "\n";
    for outcome in outcomes {
        text.push_str(&(line(outcome).map(|cell| quoted(&cell)).join(",") + "\n"));
    }
    text
}

fn line(outcome: &Outcome) -> [String; 28] {
    let number = |value: f64| format!("{value:.3}");
    let known = |value: Option<f64>| value.map_or(String::new(), number);
    let key = outcome.key;
    let takes = outcome.told.iter().filter(|told| told.takes()).count();
    [
        key.scenario.to_string(),
        key.controller.to_string(),
        key.seed.to_string(),
        key.round.to_string(),
        outcome.origin.build.clone(),
        outcome.void().unwrap_or_default(),
        number(outcome.work()),
        key.scenario.unit().to_owned(),
        known(outcome.waited_ms(950)),
        known(outcome.waited_ms(990)),
        number(outcome.pace.steps),
        number(outcome.pace.steal_percent),
        outcome.guests.len().to_string(),
        outcome.unhurt().to_string(),
        outcome.kills().to_string(),
        known(outcome.livelock()),
        outcome.controller_died.clone().unwrap_or_default(),
        known(outcome.fairness()),
        outcome.host_swap_mib().to_string(),
        outcome.merged_mib().to_string(),
        number(outcome.ksmd_cpu_ms / 1000.0),
        takes.to_string(),
        (outcome.told.len() - takes).to_string(),
        known(outcome.cost.map(|cost| cost.cpu_ms / 1000.0)),
        known(outcome.cost.map(|cost| cost.resident_mib)),
        number(outcome.libvirt_cpu_ms / 1000.0),
        number(outcome.qemu_cpu_ms / 1000.0),
        number(outcome.took_s),
    ]
}

/// As RFC 4180 has it.
fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Controller;
    use crate::outcome::tests::outcome;

    #[test]
    fn each_window_is_a_line_with_a_cell_below_each_head() {
        let mut failed = outcome(Controller::Mom, 2, &[]);
        failed.failed = Some("it said \"no\",\nand ended".into());
        let text = csv(&[outcome(Controller::None, 1, &[25_600]), failed]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0].split(',').count(), HEADS.len());
        assert!(
            lines[1].starts_with("f,none,1,1,b,,1.000,MiB/s,,,100.000,0.000,1,1,0,,,1.000,0,0,0.000,0,0,,,"),
            "{text}"
        );
        assert_eq!(lines[1].split(',').count(), HEADS.len());
        assert!(text.contains("f,mom,1,2,b,\"it said \"\"no\"\",\nand ended\",0.000,"), "{text}");
    }
}

//! What the loop makes of nodes that chance made, written down: a change of the engine shows in whom it helps and whom it hurts.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use overcommit_sim::{Orders, Outcome, chance, files, scenario, simulate};

/// So many nodes.
const NODES: u64 = 60;
/// The environment variable that has the table written.
const WRITE: &str = "OVERCOMMIT_WRITE_CHANCE";

fn orders() -> Orders {
    files::orders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples/enforce.yaml")).unwrap()
}

fn run(number: u64) -> Outcome {
    let text = chance::scenario(number);
    let scenario = scenario::read(text.as_bytes()).map_err(|bad| format!("{bad}\n{text}")).unwrap();
    simulate(&format!("chance-{number}"), &scenario, &orders())
}

fn row(name: &str, numbers: [u64; 5]) -> String {
    let [suffering, within, ended, targets, turns] = numbers;
    format!("{name:>6} {suffering:>10} {within:>8} {ended:>6} {targets:>8} {turns:>6}\n")
}

#[test]
fn nodes_by_chance_fare_as_is_written_down() {
    let mut table = format!(
        "{:>6} {:>10} {:>8} {:>6} {:>8} {:>6}\n",
        "node", "suffer, s", "within", "ended", "targets", "turns"
    );
    let mut sum = [0; 5];
    for number in 0..NODES {
        let node = run(number).node;
        let numbers =
            [node.suffering().as_secs(), node.killed_within, node.ended(), node.commands, node.turns];
        sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        table.write_str(&row(&number.to_string(), numbers)).unwrap();
    }
    table.push_str(&row("all", sum));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chance.txt");
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &table).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        table == known,
        "where the engine was changed on purpose, `make chance` writes down how nodes fare now; look at whom it hurts:\n{table}"
    );
}

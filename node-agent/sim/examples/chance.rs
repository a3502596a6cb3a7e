//! Prints the scenario of a node that chance makes: `cargo run -p overcommit-sim --example chance -- 57 > 57.yaml`.

use std::process::ExitCode;

use overcommit_sim::chance;

fn main() -> ExitCode {
    let number = std::env::args().nth(1).and_then(|number| number.parse().ok());
    let Some(number) = number else {
        eprintln!("chance: name a number, as in `chance 57`");
        return ExitCode::from(2);
    };
    print!("{}", chance::scenario(number));
    ExitCode::SUCCESS
}

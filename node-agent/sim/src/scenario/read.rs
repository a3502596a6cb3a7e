//! From a file's bytes to a scenario that can be run.

use overcommit_crds::file::{self, FileError};

use super::Scenario;

/// Largest scenario that is read; a library's are a few KiB.
pub use overcommit_crds::file::MAX_BYTES;

/// Why a scenario cannot be run. `Display` is one sentence without the file's name.
#[derive(Debug, thiserror::Error)]
pub enum Bad {
    /// Nothing but white space and comments.
    #[error("is empty: it must hold one scenario, with shows, lasts, host and guests")]
    Empty,
    /// More than one document.
    #[error("holds several YAML documents: keep one scenario and remove the rest (look for \"---\")")]
    SeveralDocuments,
    /// No text, too large, no YAML.
    #[error("{0}")]
    Text(FileError),
    /// A field that is unknown, missing, or holds what it cannot.
    #[error("{0}")]
    Field(String),
    /// Fields that do not go together.
    #[error("{}", .0.join("; "))]
    Together(Vec<String>),
}

/// Reads one scenario and checks all of it.
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn read(bytes: &[u8]) -> Result<Scenario, Bad> {
    let value = file::value(bytes).map_err(|error| match error {
        FileError::Empty => Bad::Empty,
        FileError::SeveralDocuments => Bad::SeveralDocuments,
        other => Bad::Text(other),
    })?;
    let scenario: Scenario = file::strictly(&value).map_err(Bad::Field)?;
    let wrong = scenario.contradictions();
    if wrong.is_empty() { Ok(scenario) } else { Err(Bad::Together(wrong)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "shows: nothing\nlasts: 1m\nhost: {memory: 4Gi}\nguests: [{name: a, size: 1Gi, demand: 300Mi}]\n";

    fn refusal(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_scenario_needs_little() {
        let scenario = read(GOOD.as_bytes()).unwrap();
        assert_eq!(scenario.guests[0].count, 1);
        assert_eq!(scenario.step.0.as_secs(), 1);
    }

    #[test]
    fn the_example_of_the_docs_can_be_run() {
        let docs = include_str!("../../../../docs/simulator.md");
        let example = docs.split("```").find_map(|block| block.strip_prefix("yaml\n")).unwrap();
        assert_eq!(read(example.as_bytes()).unwrap().guests[0].events.len(), 2);
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_place_and_the_remedy() {
        for (from, to, told) in [
            ("demand", "demnd", "guests[0].demnd: unknown field `demnd`, expected one of `name`"),
            ("1m", "1 minute", "lasts: \"1 minute\" is no duration: write one in one unit, such as"),
            ("300Mi", "lots", "guests[0].demand: \"lots\" is no amount of memory: write bytes such as 512Mi"),
            ("300Mi", "300", "guests[0].demand: write an amount such as 300Mi, or fields"),
            ("4Gi", "4294967296", "host.memory: 4294967296 is a number: write it in quotes"),
            ("lasts: 1m\n", "", "lasts: is missing"),
            ("name: a", "name: A_b", "guests[0].name: \"A_b\" is no name"),
            ("size: 1Gi", "size: \"0\"", "guests[0].size: must be at least 16Mi"),
            ("size: 1Gi", "size: 1Gi, temper: Kind", "guests[0].temper: Kind is not known: write Obeys"),
            ("lasts: 1m", "lasts: 1m\nstep: 20s", "step: must be from 200ms to 10s"),
        ] {
            let said = refusal(&GOOD.replace(from, to));
            assert!(said.starts_with(told), "{said}");
        }
        assert!(refusal("").starts_with("is empty: it must hold one scenario"));
        assert!(refusal(&format!("{GOOD}---\n{GOOD}")).contains("keep one scenario"));
        assert!(refusal("a: [1").contains("no YAML"));
    }

    #[test]
    fn a_course_that_goes_back_in_time_is_refused() {
        let demand = "demand: {points: [{at: 20s, is: 1Gi, over: 15s}, {at: 30s, is: 200Mi}]}";
        let said = refusal(&GOOD.replace("demand: 300Mi", demand));
        assert_eq!(
            said,
            "guests[0].demand.points[1].at: comes before the point before it is over: write 35s or later"
        );
    }

    #[test]
    fn two_guests_of_one_name_are_refused_with_both_groups_however_they_come_by_it() {
        let two = |first: &str, second: &str| {
            let guest = |named: &str| format!("{{{named}, size: 1Gi, demand: 300Mi}}");
            let guests = format!("guests: [{}, {}]", guest(first), guest(second));
            read(format!("shows: nothing\nlasts: 1m\nhost: {{memory: 4Gi}}\n{guests}\n").as_bytes())
        };
        for (first, second, at) in
            [("name: a-1", "name: a, count: 2", 0), ("name: a, count: 2", "name: a-1", 1)]
        {
            let said = two(first, second).unwrap_err().to_string();
            assert_eq!(
                said,
                format!(
                    "guests[{at}].name: a-1 is also what a guest of the group a with count: 2 is called: write another for one of both"
                )
            );
        }
        assert!(two("name: a", "name: a, count: 2").unwrap_err().to_string().contains("name: stands twice"));
        for other in
            ["name: a-2", "name: a-01", "name: a-0, namespace: other", "name: a-0, count: 2", "name: a-b"]
        {
            assert!(two("name: a, count: 2", other).is_ok(), "{other}");
        }
        assert!(two("name: a", "name: a-0").is_ok(), "a group of one has no number behind its name");
    }
}

//! Where the two differ on purpose: the rows of the table in `docs/mom.md`, by their names.

use overcommit_tests::mom::{Answer, Told};

use crate::ours::Ours;

/// A difference on purpose.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name in `docs/mom.md`.
    pub(crate) name: &'static str,
    /// Whether generated programs may need it; of others it takes a hand to say that they do.
    generated: bool,
    /// Whether it can be why these answers differ.
    explains: fn(&Answer, &Ours) -> bool,
}

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    // MOM drops what follows the first text that is no token; here it is an error at its place.
    Row {
        name: "unlexable-text",
        generated: false,
        explains: |mom, ours| !not_loaded(mom) && matches!(ours, Ours::NoProgram(_)),
    },
    // A byte order mark, and a backslash at the end of a line in a text: MOM drops the rest.
    Row { name: "lenient-text", generated: false, explains: |_, ours| worked(ours) },
    // An error in a guest's turn ends MOM's whole cycle; here it concerns that guest alone.
    Row {
        name: "guest-isolation",
        generated: true,
        explains: |mom, ours| failed(mom, &[]) && !ours.guest_errors().is_empty(),
    },
    // `Guests` is a list like others here, and a view of a dictionary in MOM.
    Row {
        name: "guests-list",
        generated: false,
        explains: |mom, ours| failed(mom, &["TypeError"]) && worked(ours),
    },
    // Python's attributes are within MOM's reach; here fields and methods are.
    Row {
        name: "host-attributes",
        generated: false,
        explains: |mom, ours| whole(mom) && says(ours, "undefined"),
    },
    // MOM's lexer takes exponential time for rows of digits.
    Row {
        name: "long-numbers",
        generated: false,
        explains: |mom, ours| failed(mom, &["OutOfTime"]) && worked(ours),
    },
    // Python ends at some depth; here it is deeper, and the same whatever calls what.
    Row {
        name: "depth",
        generated: true,
        explains: |mom, ours| failed(mom, &["RecursionError"]) && worked(ours),
    },
    // A variable or a control has a text for a name.
    Row {
        name: "text-names",
        generated: false,
        explains: |mom, ours| whole(mom) && says(ours, "takes a name as a text"),
    },
    // A field that is declared is nil where nothing was sampled yet; MOM has no such attribute then.
    Row {
        name: "declared-field",
        generated: false,
        explains: |mom, ours| failed(mom, &["PolicyError"]) && worked(ours),
    },
    // MOM reads its files in Python's text mode.
    Row { name: "carriage-returns", generated: false, explains: |mom, ours| whole(mom) && worked(ours) },
    // Steps, memory and lengths have limits here.
    Row {
        name: "budgets",
        generated: true,
        explains: |mom, ours| {
            let much = whole(mom) || failed(mom, &["TooLong", "MemoryError", "OutOfTime", "Killed"]);
            much && ["budget", "longer than", "bits"].iter().any(|word| says(ours, word))
        },
    },
];

/// The row of that name.
pub(crate) fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// How two answers go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same values, controls and variables, or an error both.
    Same,
    /// A difference that this row explains.
    OnPurpose(&'static str),
    /// A bug on one of the sides, or in the table.
    Unexplained,
}

/// Compares two answers.
pub(crate) fn compare(mom: &Answer, ours: &Ours) -> Verdict {
    let same = match (mom, ours) {
        (Answer::Whole(mom), Ours::Whole(ours)) => same(mom, ours),
        (Answer::Error { .. }, Ours::NoProgram(_) | Ours::Failed(_)) => true,
        _ => false,
    };
    if same {
        return Verdict::Same;
    }
    ROWS.iter()
        .find(|row| row.generated && (row.explains)(mom, ours))
        .map_or(Verdict::Unexplained, |row| Verdict::OnPurpose(row.name))
}

/// Whether the row can be why.
pub(crate) fn explains(row: &Row, mom: &Answer, ours: &Ours) -> bool {
    compare(mom, ours) != Verdict::Same && (row.explains)(mom, ours)
}

fn whole(mom: &Answer) -> bool {
    matches!(mom, Answer::Whole(_))
}

fn not_loaded(mom: &Answer) -> bool {
    matches!(mom, Answer::Error { stage, .. } if stage == "load")
}

/// Whether MOM ended in one of these exceptions; in any if none is named.
fn failed(mom: &Answer, classes: &[&str]) -> bool {
    matches!(mom, Answer::Error { class, .. } if classes.is_empty() || classes.contains(&class.as_str()))
}

fn worked(ours: &Ours) -> bool {
    ours.error().is_none() && ours.guest_errors().is_empty()
}

/// Whether an error of ours, or of a guest, has these words.
fn says(ours: &Ours, words: &str) -> bool {
    let guests = ours.guest_errors().iter().filter_map(|error| error.field("message"));
    ours.error().is_some_and(|message| message.contains(words))
        || guests.into_iter().any(|message| matches!(message, Told::Text(text) if text.contains(words)))
}

/// The same, but for what JSON has no form for: MOM's answer names an object's class where ours has a text in angles, and
/// `Guests` itself is a list here.
fn same(mom: &Told, ours: &Told) -> bool {
    match (mom, ours) {
        (Told::Map(object), Told::Text(text))
            if object.contains_key("object") || object.contains_key("entity") =>
        {
            text.starts_with('<')
        }
        (Told::Map(object), Told::List(_)) => {
            object.get("object").is_some_and(|class| *class == Told::Text("dict_values".into()))
        }
        (Told::Map(mom), Told::Map(ours)) => {
            mom.len() == ours.len()
                && mom.iter().zip(ours).all(|((key, mom), (other, ours))| key == other && same(mom, ours))
        }
        (Told::List(mom), Told::List(ours)) => {
            mom.len() == ours.len() && mom.iter().zip(ours).all(|(mom, ours)| same(mom, ours))
        }
        _ => mom == ours,
    }
}

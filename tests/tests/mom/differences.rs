//! Where the two differ on purpose: the rows of the table in `docs/mom.md`, by their names.

use anyhow::Result;
use overcommit_tests::mom::{Answer, Case, Oracle, Told};

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
    // An error in a guest's turn ends MOM's whole cycle; here it concerns that guest alone. [`judge`] asks what MOM's evaluator
    // makes of it by that rule.
    Row {
        name: ISOLATION,
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
        explains: |mom, ours| failed(mom, &["RecursionError"]) && ours.error().is_none(),
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
    // Python takes an object for equal to itself before it asks, in lists alone; NaN is equal to nothing here, wherever it stands.
    Row { name: "nan-in-lists", generated: false, explains: |mom, ours| whole(mom) && worked(ours) },
    // MOM calls its functions through `let`, whatever that is just then.
    Row {
        name: "variable-let",
        generated: false,
        explains: |mom, ours| failed(mom, &["IndexError", "TypeError"]) && worked(ours),
    },
    // MOM's fields hide the methods of their names.
    Row { name: "field-like-method", generated: false, explains: |mom, ours| whole(mom) && worked(ours) },
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

/// An error in a guest's turn concerns that guest alone.
pub(crate) const ISOLATION: &str = "guest-isolation";

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

/// Asks MOM, and compares. Where a guest failed here, and all of MOM, MOM's evaluator is asked again with our rule: what becomes
/// of the others, of what the guest was told, and of what the turn left has to be the same.
pub(crate) fn judge(oracle: &mut Oracle, case: &Case, ours: &Ours) -> Result<(Answer, Verdict)> {
    let mom = oracle.ask(case)?;
    let verdict = compare(&mom, ours);
    if verdict != Verdict::OnPurpose(ISOLATION) {
        return Ok((mom, verdict));
    }
    let isolating = oracle.ask_isolating(case)?;
    Ok(match compare(&isolating, ours) {
        Verdict::Same => (mom, verdict),
        // What MOM cannot evaluate is no guest's error.
        Verdict::OnPurpose(ISOLATION) => (isolating, Verdict::Unexplained),
        other => (isolating, other),
    })
}

/// Compares two answers.
pub(crate) fn compare(mom: &Answer, ours: &Ours) -> Verdict {
    let same = match (mom, ours) {
        (Answer::Whole(mom), Ours::Whole(ours)) => same_whole(mom, ours),
        (Answer::Error { .. }, Ours::NoProgram(_) | Ours::Failed(_)) => true,
        _ => false,
    };
    if same {
        return Verdict::Same;
    }
    let rows = ROWS.iter().filter(|row| row.generated);
    // By rows that want more of the two first.
    rows.rev()
        .find(|row| (row.explains)(mom, ours))
        .map_or(Verdict::Unexplained, |row| Verdict::OnPurpose(row.name))
}

/// Whether two errors are one error in each evaluator's words, by MOM's exception; true of answers that are not errors both.
pub(crate) fn alike(mom: &Answer, ours: &Ours) -> bool {
    let (stage, class, why) = match (mom, ours) {
        (Answer::Error { stage, class, .. }, Ours::NoProgram(why)) => (stage == "load", class, why),
        (Answer::Error { stage, class, .. }, Ours::Failed(why)) => (stage == "run", class, why),
        _ => return true,
    };
    let words: &[&str] = match class.as_str() {
        "KeyError" => &["undefined ", "no collector has", "there is no property", " takes a name"],
        "PolicyError" => &[
            "undefined ",
            " takes ",
            "stands where a value",
            "a name is due",
            "is no name",
            "a list begins with",
        ],
        "TypeError" => &[
            " takes ",
            " cannot be ",
            " no order",
            " no amount",
            "stands where a value",
            "are no list",
            "only integers",
        ],
        "IndexError" => &[" takes ", "an empty list"],
        "ZeroDivisionError" => &["division by zero"],
        "OverflowError" => &["too large"],
        "ValueError" => &["a shift by less than 0"],
        "RecursionError" => &["nested deeper"],
        _ => &[],
    };
    stage && words.iter().any(|words| why.contains(words))
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

/// The same values, controls and variables, and the same guests that failed, one after the other; the words are each
/// evaluator's own.
fn same_whole(mom: &Told, ours: &Told) -> bool {
    let parts = ["values", "host", "guests"];
    let guests = |of: &Told| -> Vec<Option<Told>> {
        let errors = of.field("errors").map_or(&[][..], Told::items);
        errors.iter().map(|error| error.field("guest").cloned()).collect()
    };
    let alike = |part| mom.field(part).zip(ours.field(part)).is_some_and(|(mom, ours)| same(mom, ours));
    parts.into_iter().all(alike) && guests(mom) == guests(ours)
}

/// The same, but for what JSON has no form for: MOM's answer names an object's class where ours has a text in angles, and
/// `Guests` itself is a list here.
fn same(mom: &Told, ours: &Told) -> bool {
    match (mom, ours) {
        (Told::Map(object), Told::Text(text)) if object.contains_key("entity") => {
            matches!(object.get("entity"), Some(Told::Text(name)) if *text == format!("<{name}>"))
        }
        (Told::Map(object), Told::Text(text)) if object.contains_key("object") => text.starts_with('<'),
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

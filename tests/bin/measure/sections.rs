//! The sections of `docs/measurements.md`: each is measured by itself, and takes the place of what was measured before.

const TITLE: &str = "\n## ";

/// What was measured, as it may follow other text: each section begins at a line's start.
fn lines(text: &str) -> String {
    format!("\n{}", text.trim())
}

/// What stands before the first section, and each section from its title on, without the marks of one.
fn split(text: &str) -> (&str, Vec<&str>) {
    let mut pieces = text.split(TITLE);
    (pieces.next().unwrap_or_default(), pieces.collect())
}

fn title(section: &str) -> &str {
    section.lines().next().unwrap_or_default().trim()
}

/// The text with this paragraph at the end of each of its sections.
pub(crate) fn signed(text: &str, paragraph: &str) -> String {
    let lines = lines(text);
    let (_, sections) = split(&lines);
    let signed = sections.iter().map(|section| format!("{TITLE}{}\n\n{paragraph}\n", section.trim_end()));
    signed.collect::<String>().trim_start().to_owned()
}

/// The text with these sections in the places of those with the same titles, and new ones at its end. What people wrote in such a
/// place goes: it spoke of figures that go.
pub(crate) fn replace(text: &str, measured: &str) -> String {
    let lines = lines(measured);
    let (_, fresh) = split(&lines);
    let (head, mut sections) = split(text);
    for section in fresh {
        match sections.iter_mut().find(|known| title(known) == title(section)) {
            Some(known) => *known = section,
            None => sections.push(section),
        }
    }
    let sections = sections.iter().map(|section| format!("\n{TITLE}{}", section.trim_end()));
    head.trim_end().to_owned() + &sections.collect::<String>() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "# Measurements\n\nHow.\n\n## One\n\n1\n\nsaid of 1\n\n## Two\n\n2\n\n### A part\n\nof 2\n\n## Three\n\n3\n";

    #[test]
    fn a_section_takes_the_place_of_the_one_with_its_title_and_others_stay() {
        assert_eq!(
            replace(KNOWN, "## Two\n\n22\n\n## One\n\n11\n"),
            "# Measurements\n\nHow.\n\n## One\n\n11\n\n## Two\n\n22\n\n## Three\n\n3\n"
        );
        assert_eq!(replace(KNOWN, ""), KNOWN);
    }

    #[test]
    fn a_section_that_is_new_is_the_last() {
        assert_eq!(replace(KNOWN, "## Four\n\n4"), format!("{KNOWN}\n## Four\n\n4\n"));
        assert_eq!(replace("# Measurements\n", "## One\n\n1"), "# Measurements\n\n## One\n\n1\n");
    }

    #[test]
    fn each_section_says_where_it_was_measured() {
        assert_eq!(
            signed("## One\n\n1\n\n## Two\n\n2\n", "*here*"),
            "## One\n\n1\n\n*here*\n\n## Two\n\n2\n\n*here*\n"
        );
    }
}

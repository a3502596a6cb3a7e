//! What somebody may have meant who wrote something that does not exist.

/// Names that are longer are no slips of the pen.
const LONGEST: usize = 32;
/// Candidates of about its length that are looked at: hundreds of errors among thousands of names must not take seconds.
const MANY: usize = 200;

/// The candidate that looks most like it, if one does: every third letter may be wrong, and the case of each.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let distance = |candidate: &str| {
        if candidate.eq_ignore_ascii_case(name) { 0 } else { strsim::damerau_levenshtein(candidate, name) }
    };
    let likely = (name.len() / 3).max(1);
    candidates
        .filter(|candidate| *candidate != name && candidate.len().abs_diff(name.len()) <= likely)
        .take(MANY)
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= likely)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The same as the end of a message.
pub(super) fn hint<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    nearest(name, candidates).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
}

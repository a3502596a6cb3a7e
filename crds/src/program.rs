//! Programs of a policy: from slots and parameters as people write them to the text that nodes run. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use overcommit_policy::{Finding, Program, Severity, Source, is_number};

use crate::policy::{
    BLANK_HELP, CONFIG_MAP_NAME_HELP, ConfigMapKeyRef, EngineSpec, KEY_HELP, MomSpec, NUMBER_HELP, Number,
    OvercommitPolicySpec, PARAMETER_NAME_HELP, PARAMETERS_MAX, PARAMETERS_SLOT, PARAMETERS_SLOT_HELP,
    PROGRAM_MAX, Parameters, SLOT_NAME_HELP, SLOT_NAME_MAX, SLOT_SOURCE_HELP, SLOTS_MAX, SlotSpec,
};
use crate::resolve::FieldError;

/// What people should know of a program that can run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// What is probably not meant: the first ones, each as `SLOT:LINE:COLUMN: …`, and how many more there are.
    pub unmeant: Vec<String>,
    /// All controls that it sets and nobody here acts on, by their names, each with the first place. It may well mean them: whoever
    /// brings a program along has to know all of what does not come with it.
    pub unsupported: Vec<String>,
}

/// Findings that are told of one program; the rest is counted.
const TOLD: usize = 3;
/// Longest name of a ConfigMap or of a key (apimachinery/pkg/util/validation, `DNS1123SubdomainMaxLength`).
const REFERENCE_MAX: usize = 253;
/// What is told where text stands elsewhere and nobody can fetch it.
const NOT_INLINE: &str = "there are no ConfigMaps here: write the text of the slot under program";

/// The ConfigMaps' keys that a policy names.
pub fn references(spec: &OvercommitPolicySpec) -> impl Iterator<Item = &ConfigMapKeyRef> {
    slots(&spec.engine).iter().filter_map(|slot| slot.config_map_key_ref.as_ref())
}

/// The same policy with the text of each reference in its place, as `look` gives it.
///
/// # Errors
/// What `look` says of the first reference that has no text.
pub fn inline<E>(
    spec: &OvercommitPolicySpec,
    look: impl Fn(&ConfigMapKeyRef) -> Result<Arc<str>, E>,
) -> Result<Cow<'_, OvercommitPolicySpec>, E> {
    if references(spec).next().is_none() {
        return Ok(Cow::Borrowed(spec));
    }
    let mut inlined = spec.clone();
    for slot in inlined.engine.mom.iter_mut().flat_map(|mom| &mut mom.slots) {
        if let Some(reference) = slot.config_map_key_ref.take() {
            slot.program = Some(look(&reference)?);
        }
    }
    Ok(Cow::Owned(inlined))
}

/// The engine as nodes run it: slots in the order of their names, parameters among them.
pub(crate) fn engine(spec: &OvercommitPolicySpec) -> EngineSpec {
    let Some(mom) = &spec.engine.mom else { return spec.engine.clone() };
    let mut slots = mom.slots.clone();
    slots.extend(parameters_slot(&spec.parameters));
    slots.sort_by(|a, b| a.name.cmp(&b.name));
    EngineSpec { mom: Some(MomSpec { slots }), ..spec.engine.clone() }
}

fn parameters_slot(parameters: &Parameters) -> Option<SlotSpec> {
    let mut text = String::new();
    for (name, value) in parameters {
        // Into a String: it never fails.
        let _ = writeln!(text, "(set {name} {value})");
    }
    let slot = |text: String| SlotSpec {
        name: PARAMETERS_SLOT.to_owned(),
        program: Some(text.into()),
        config_map_key_ref: None,
    };
    (!text.is_empty()).then(|| slot(text))
}

/// True if there is nothing in it ([`BLANK_HELP`]), wherever it stands; the schema's `trim` takes the same characters for blanks
/// (Unicode's `White_Space`).
pub fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn slots(engine: &EngineSpec) -> &[SlotSpec] {
    engine.mom.as_ref().map(|mom| mom.slots.as_slice()).unwrap_or_default()
}

/// What is wrong with slots and parameters as they are written, whatever their text says; `place` is where `engine` stands.
pub(crate) fn check_written(spec: &OvercommitPolicySpec, place: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(mom) = &spec.engine.mom {
        check_slots(mom, place, &mut errors);
    }
    let mut refuse = |name: &str, message: String| {
        errors.push(FieldError::at(&format!("{place}.parameters{name}"), message));
    };
    if spec.parameters.len() > PARAMETERS_MAX {
        refuse("", format!("{} are too many: write at most {PARAMETERS_MAX}", spec.parameters.len()));
    }
    if !spec.parameters.is_empty() && spec.engine.mom.is_none() {
        refuse("", crate::policy::PARAMETERS_UNREAD.to_owned());
    }
    for (name, value) in spec.parameters.iter().take(PARAMETERS_MAX) {
        if !is_variable(name) {
            refuse("", format!("{name:?} is no name of a variable: {PARAMETER_NAME_HELP}"));
        }
        if let Number::Literal(text) = value
            && (text.len() > SLOT_NAME_MAX || !is_number(text))
        {
            refuse(&format!(".{name}"), format!("{text:?} is no number of the language: {NUMBER_HELP}"));
        }
    }
    if !spec.parameters.is_empty() {
        errors.extend(slots(&spec.engine).iter().enumerate().filter_map(|(index, slot)| {
            let message = in_place_of_parameters(&slot.name)?;
            Some(FieldError::at(&format!("{place}.engine.mom.slots[{index}].name"), message))
        }));
    }
    errors
}

/// What is wrong with a slot of this name beside parameters.
fn in_place_of_parameters(name: &str) -> Option<String> {
    if name == PARAMETERS_SLOT {
        return Some(format!(
            "{name} is what spec.parameters becomes: give the slot another name, or put its values into one of both"
        ));
    }
    // As the file lies in VDSM's directory. It would run after the parameters and set what they set.
    (name.strip_suffix(".policy") == Some(PARAMETERS_SLOT)).then(|| {
        format!(
            "{name} is VDSM's file of what spec.parameters becomes, and would override it: put its values into one of both, or give \
             the slot another name, such as 02-overrides, if that is what it is for"
        )
    })
}

pub(crate) fn check_slots(mom: &MomSpec, place: &str, errors: &mut Vec<FieldError>) {
    let mut refuse = |field: &str, message: String| {
        errors.push(FieldError::at(&format!("{place}.engine.mom.slots{field}"), message));
    };
    match mom.slots.len() {
        0 => refuse("", "a program has one slot or more: write slots: [{name: …, program: …}]".to_owned()),
        1..=SLOTS_MAX => {}
        many => refuse("", format!("{many} are too many: write at most {SLOTS_MAX}")),
    }
    for (index, slot) in mom.slots.iter().take(SLOTS_MAX).enumerate() {
        if !is_name(&slot.name, SLOT_NAME_MAX) {
            refuse(
                &format!("[{index}].name"),
                format!("{:?} is no name of a slot: {SLOT_NAME_HELP}", slot.name),
            );
        }
        if mom.slots.iter().take(index).any(|other| other.name == slot.name) {
            refuse(
                &format!("[{index}].name"),
                format!("{:?} stands twice: slot names are unique", slot.name),
            );
        }
        match (&slot.program, &slot.config_map_key_ref) {
            (Some(text), None) if is_blank(text) => {
                refuse(&format!("[{index}].program"), BLANK_HELP.to_owned());
            }
            (None, Some(reference)) => {
                let at = format!("[{index}].configMapKeyRef");
                if !is_config_map(&reference.name) {
                    refuse(&format!("{at}.name"), format!("{:?}: {CONFIG_MAP_NAME_HELP}", reference.name));
                }
                if !is_name(&reference.key, REFERENCE_MAX) {
                    refuse(&format!("{at}.key"), format!("{:?}: {KEY_HELP}", reference.key));
                }
            }
            (Some(_), None) => {}
            (Some(_), Some(_)) | (None, None) => refuse(&format!("[{index}]"), SLOT_SOURCE_HELP.to_owned()),
        }
    }
}

/// Reads an inlined program: what keeps it from running, each as `SLOT:LINE:COLUMN: …`, or else what people should know of it.
///
/// # Errors
/// Slots that leave none for the parameters, text that stands elsewhere or is too long, text that is no program, what
/// certainly fails where it is evaluated, and parameters
/// that no slot before theirs defines.
pub fn check(spec: &OvercommitPolicySpec) -> Result<Doubts, Vec<FieldError>> {
    let engine = engine(spec);
    if engine.mom.is_none() {
        return Ok(Doubts::default());
    }
    let place = "spec.engine.mom";
    let refused = |message: String| vec![FieldError::at(place, message)];
    if slots(&spec.engine).len() <= SLOTS_MAX && slots(&engine).len() > SLOTS_MAX {
        return Err(vec![FieldError::at(&format!("{place}.slots"), PARAMETERS_SLOT_HELP.to_owned())]);
    }
    let mut sources = Vec::new();
    for slot in slots(&engine) {
        let Some(text) = &slot.program else {
            let index = slots(&spec.engine).iter().position(|written| written.name == slot.name);
            let at = format!("{place}.slots[{}].configMapKeyRef", index.unwrap_or_default());
            return Err(vec![FieldError::at(&at, NOT_INLINE.to_owned())]);
        };
        sources.push(Source { name: &slot.name, bytes: text.as_bytes() });
    }
    let bytes: usize = sources.iter().map(|source| source.bytes.len()).sum();
    if let Some(more) = bytes.checked_sub(PROGRAM_MAX).filter(|more| *more > 0) {
        let message = format!(
            "the slots have {bytes} bytes together, {more} too many: at most {PROGRAM_MAX} fit into a node's object"
        );
        return Err(refused(format!("{message}; leave out comments, or slots that nothing here acts on")));
    }
    let program = Program::parse(&sources).map_err(|trouble| refused(trouble.to_string()))?;
    undefined_parameters(&program, &spec.parameters)?;
    let found = program.check();
    let (errors, warnings): (Vec<&Finding>, Vec<&Finding>) =
        found.iter().partition(|finding| finding.severity == Severity::Error);
    if errors.is_empty() {
        let unmeant: Vec<&Finding> =
            warnings.iter().copied().filter(|finding| finding.unsupported.is_none()).collect();
        return Ok(Doubts { unmeant: told(&unmeant), unsupported: unsupported(&warnings) });
    }
    Err(told(&errors).into_iter().map(|message| FieldError::at(place, message)).collect())
}

/// Those that no slot before that of the parameters defines: setting them would fail.
fn undefined_parameters(program: &Program, parameters: &Parameters) -> Result<(), Vec<FieldError>> {
    if parameters.is_empty() {
        return Ok(());
    }
    let globals = program.globals();
    let before = |name: &str| {
        globals.iter().any(|(global, place)| *global == name && place.file.as_ref() < PARAMETERS_SLOT)
    };
    let refused = |name: &String| {
        let later = globals.iter().find(|(global, _)| global == name);
        let message = match later {
            Some((_, place)) => format!(
                "is defined at {place}, behind {PARAMETERS_SLOT}: move (defvar {name} VALUE) to a slot before it, such as 00-defines"
            ),
            None => format!(
                "no slot defines it: write (defvar {name} VALUE) in a slot before {PARAMETERS_SLOT}, such as 00-defines, or remove it"
            ),
        };
        FieldError::at(&format!("spec.parameters.{name}"), message)
    };
    let errors: Vec<FieldError> = parameters.keys().filter(|name| !before(name)).map(refused).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Each control that nobody acts on, and where it stands first; there is a handful of them.
fn unsupported(findings: &[&Finding]) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    let mut told = Vec::new();
    for finding in findings {
        if let Some(name) = finding.unsupported.filter(|name| !names.contains(name)) {
            names.push(name);
            told.push(format!("{name} ({})", finding.place));
        }
    }
    told
}

/// The first of them in words, and how many more there are.
fn told(findings: &[&Finding]) -> Vec<String> {
    let words = |finding: &&Finding| format!("{}: {}", finding.place, finding.message);
    let mut told: Vec<String> = findings.iter().take(TOLD).map(words).collect();
    let more = findings.len().saturating_sub(TOLD);
    if more > 0 {
        told.push(format!("and {more} more: overcommit-agent policy check lists them"));
    }
    told
}

/// Letters, digits, dots, dashes and underscores.
fn is_name(name: &str, longest: usize) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=longest).contains(&name.len()) && name.bytes().all(inner)
}

fn is_config_map(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (1..=REFERENCE_MAX).contains(&name.len())
        && name.bytes().all(inner)
        && ends(name.bytes().next())
        && ends(name.bytes().last())
}

/// A name that a program can set: no attribute.
fn is_variable(name: &str) -> bool {
    is_name(name, SLOT_NAME_MAX)
        && !name.contains('.')
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
}

#[cfg(test)]
mod tests;

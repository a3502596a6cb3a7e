//! The journal's text: one JSON document behind a line with its SHA-256, so that a torn or edited file is noticed.
//!
//! Names nothing of this crate but what it is given: `tests/fuzz` takes this very file in.

use std::collections::BTreeMap;

use overcommit_core::sample::{GuestId, Incarnation};
use overcommit_core::step::Original;
use overcommit_core::units::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One guest's entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its process.
    pub(crate) incarnation: Option<Incarnation>,
    /// What it had.
    pub(crate) original: Original,
    /// The target in force, or about to be.
    pub(crate) target: Bytes,
}

/// All entries of one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// Which boot.
    pub(crate) boot_id: String,
    /// By guest.
    pub(crate) guests: BTreeMap<GuestId, Entry>,
}

/// What stands before `body`.
pub(crate) fn digest(body: &[u8]) -> String {
    Sha256::digest(body).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The text of a journal.
pub(crate) fn render(content: &Content) -> Vec<u8> {
    let body = serde_json::to_vec(content).unwrap_or_default();
    let mut text = digest(&body).into_bytes();
    text.push(b'\n');
    text.extend(body);
    text
}

/// The journal in a text.
///
/// # Errors
/// Why it is none.
pub(crate) fn parse(text: &[u8]) -> Result<Content, String> {
    let (sum, body) = text
        .iter()
        .position(|b| *b == b'\n')
        .and_then(|at| text.split_at_checked(at))
        .ok_or("it is cut short")?;
    let body = body.get(1..).unwrap_or_default();
    if digest(body).as_bytes() != sum {
        return Err("its checksum does not match".to_owned());
    }
    serde_json::from_slice(body).map_err(|e| e.to_string())
}

//! A JSON document behind a line with its SHA-256, so that a torn or edited file is noticed.
//!
//! Names nothing of this crate: `tests/fuzz` takes this very file in.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

/// A document, sealed.
pub(crate) fn seal(content: &impl Serialize) -> Vec<u8> {
    let body = serde_json::to_vec(content).unwrap_or_default();
    let mut text = digest(&body).into_bytes();
    text.push(b'\n');
    text.extend(body);
    text
}

/// The document in `text`.
///
/// # Errors
/// When it was cut short, or changed since it was sealed, or is of another form.
pub(crate) fn open<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
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

/// What stands before `body`.
pub(crate) fn digest(body: &[u8]) -> String {
    Sha256::digest(body).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

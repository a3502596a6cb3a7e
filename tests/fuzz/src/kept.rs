//! What the agent finds on its disk, and what it takes from the API server and keeps there.

use std::fmt::Debug;

use overcommit_core::growth::Growth;
use overcommit_core::step::State;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::journal::Content;
use crate::orders::{Origin, Standing, Version};
use crate::received::Received;
use crate::{envelope, guests};

/// Any bytes as the body of an envelope that nothing happened to.
fn sealed(body: &[u8]) -> Vec<u8> {
    [envelope::digest(body).as_bytes(), b"\n", body].concat()
}

/// What is in an envelope with this body; it is written and read the same, and once it was damaged anywhere that is
/// noticed.
fn kept<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let open = |text: &[u8]| envelope::open::<T>(text);
    drop(open(bytes));
    let content = open(&sealed(bytes)).ok()?;
    let written = envelope::seal(&content);
    assert_eq!(open(&written).expect("what was written"), content);
    let at = bytes.iter().map(|b| usize::from(*b)).sum::<usize>() % written.len();
    assert!(open(&written[..at]).is_err(), "torn at {at}");
    let mut damaged = written;
    damaged[at] ^= 1 << (at % 8);
    assert!(open(&damaged).is_err(), "damaged at {at}");
    Some(content)
}

/// What guests had before they were touched.
pub(crate) fn journal(bytes: &[u8]) {
    kept::<Content>(bytes);
}

/// What a predecessor learned of the node: whatever it was, it hurts no guest.
pub(crate) fn learned(bytes: &[u8]) {
    let Some(learned) = kept::<Growth>(bytes) else { return };
    let mut state = State::default();
    state.recall(learned);
    guests::live_with(&mut state);
}

/// Orders obey release and pause whatever stands beside them, take nothing once withdrawn, and say the same from disk.
pub(crate) fn orders(bytes: &[u8]) {
    for text in [bytes, &sealed(bytes)] {
        drop(Received::from_disk("here", text).map(|received| received.orders(Origin::Cache, None)));
    }
    let Ok(spec) = serde_json::from_slice::<Value>(bytes) else { return };
    let says = |field: &str| spec.get(field) == Some(&Value::Bool(true));
    let version = Version { uid: "u".to_owned(), generation: 1 };
    for standing in [Standing::Stands, Standing::Deleted, Standing::Gone] {
        let received =
            Received { node: "here".to_owned(), version: version.clone(), standing, spec: spec.clone() };
        let orders = received.orders(Origin::Api, None);
        if let Ok(orders) = &orders {
            assert_eq!(orders.release, says("release"));
            assert!(orders.paused || (standing == Standing::Stands && !says("paused")));
        } else {
            assert!(standing == Standing::Stands && !says("release") && !says("paused"), "{orders:?}");
        }
        let text = envelope::seal(&received);
        let kept = Received::from_disk("here", &text).expect("what was received is read again");
        if !has_fraction(&spec) {
            assert_eq!(kept, received);
            assert_eq!(format!("{:?}", kept.orders(Origin::Api, None)), format!("{orders:?}"));
        }
        assert!(Received::from_disk("there", &text).is_err());
    }
}

/// Fractions are read to the nearest but one; no field of ours has any.
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(all) => all.iter().any(has_fraction),
        Value::Object(all) => all.values().any(has_fraction),
        _ => false,
    }
}

//! What generated programs see.

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Fields that are integers in each sample, those that are floats, and one that is there or not.
pub(super) const INTEGERS: [&str; 4] = ["balloon_cur", "balloon_max", "mem_unused", "mem_available"];
pub(super) const FLOATS: [&str; 2] = ["ratio", "load"];
pub(super) const SOMETIMES: &str = "swap_in";

/// A host and none to three guests, with up to 12 samples each (10 are kept).
pub(super) fn world(rng: &mut Rng) -> Value {
    let host = subject(rng, None);
    let guests: Vec<_> = (0..rng.usize(..4)).map(|n| subject(rng, Some(["a", "b", "c"][n]))).collect();
    json!({"host": host, "guests": guests})
}

fn subject(rng: &mut Rng, name: Option<&str>) -> Value {
    let history: Vec<_> = (0..rng.usize(1..13)).map(|_| sample(rng)).collect();
    let mut subject = json!({
        "properties": {"interval": rng.u32(1..60), "name": name.unwrap_or("host"), "pid": rng.u32(1..99999)},
        "history": history,
        "fields": ["declared"],
        "variables": {"kept": rng.u32(..10)},
    });
    if let Some(name) = name {
        subject["name"] = json!(name);
        subject["controls"] =
            if rng.bool() { json!({"balloon_target": rng.u32(..1 << 20)}) } else { json!({}) };
    }
    subject
}

fn sample(rng: &mut Rng) -> Value {
    let mut sample = Map::new();
    for field in INTEGERS {
        let bits = rng.u32(1..40);
        sample.insert(field.into(), json!(rng.u64(..1 << bits)));
    }
    for field in FLOATS {
        sample.insert(field.into(), json!((rng.f64() - 0.25) * 10_f64.powi(rng.i32(-3..6))));
    }
    match rng.u32(..3) {
        0 => {}
        1 => drop(sample.insert(SOMETIMES.into(), Value::Null)),
        _ => drop(sample.insert(SOMETIMES.into(), json!(rng.u32(..1000)))),
    }
    Value::Object(sample)
}

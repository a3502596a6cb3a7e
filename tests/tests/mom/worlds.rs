//! What programs see: hosts and guests as `policy eval --input` takes them.

use serde_json::{Value, json};

/// Two guests and a host, with samples that are whole, and fields that miss in some of them or in all.
pub(crate) fn plain() -> Value {
    let host = |free: u64| json!({"mem_available": 8_000_000, "mem_free": free, "ksm_pages_to_scan": 100});
    json!({
        "host": {
            "properties": {"interval": 5},
            "variables": {"kept": 41},
            "history": [host(1_000_001), host(1_500_000), host(2_000_002)],
            "fields": ["declared_only"],
        },
        "guests": [
            guest("alpha", 1_048_576, 0.5),
            guest("beta", 524_288, 1e-3),
        ],
    })
}

fn guest(name: &str, memory: u64, ratio: f64) -> Value {
    let sample = |less: u64| {
        json!({
            "balloon_cur": memory - less, "balloon_max": memory, "balloon_min": memory / 4,
            "mem_unused": memory / 8 - less, "swap_in": null, "ratio": ratio, "words": "kB",
        })
    };
    let mut history = vec![sample(0), sample(1), sample(3)];
    history[0]["early"] = json!(7);
    history[2]["late"] = json!(9);
    json!({
        "name": name,
        "properties": {"name": name, "uuid": format!("0-{name}"), "pid": 17},
        "history": history,
        "fields": ["declared_only"],
        "variables": {"kept": memory},
        "controls": {"balloon_target": memory / 2},
    })
}

/// A guest and a host of which nothing was sampled yet.
pub(crate) fn empty() -> Value {
    json!({
        "host": {"properties": {"interval": 5}, "history": [], "fields": ["mem_free"]},
        "guests": [{"name": "new", "properties": {"name": "new"}, "history": [], "fields": ["balloon_cur"]}],
    })
}

/// A host whose fields have the names of methods.
pub(crate) fn like_methods() -> Value {
    json!({
        "host": {"properties": {"interval": 5}, "history": [{"Stat": 5, "Prop": 6, "mem_free": 7}]},
        "guests": [],
    })
}

/// A node without guests.
pub(crate) fn nobody() -> Value {
    json!({"host": plain()["host"], "guests": []})
}

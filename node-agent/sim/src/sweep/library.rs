//! Every parameter that has a picture.

use overcommit_core::units::Bytes;

use super::{Measure, Sweep, figure};

const SUFFERING: Measure = Measure { name: "guests suffer", is_price: true, of: figure::suffering };
const ENDED: Measure = Measure { name: "guests ended", is_price: true, of: figure::ended };
const KILLED: Measure = Measure { name: "killed within guests", is_price: true, of: figure::killed_within };
const COMMANDS: Measure = Measure { name: "targets set", is_price: true, of: figure::commands };
const SHORT: Measure = Measure { name: "more promised than there is", is_price: true, of: figure::short };
const BUDGET: Measure = Measure { name: "may be promised to guests", is_price: false, of: figure::budget };
const LONGEST: Measure = Measure { name: "longest without a break", is_price: true, of: figure::longest };
const GOLD: Measure = Measure {
    name: "a gold guest suffers",
    is_price: true,
    of: |outcome| figure::suffering_of(outcome, "default/gold"),
};
const SILVER: Measure = Measure {
    name: "a silver guest suffers",
    is_price: true,
    of: |outcome| figure::suffering_of(outcome, "default/silver"),
};

/// What most sweeps have in common.
const PLAIN: Sweep = Sweep {
    name: "",
    parameter: "",
    shows: "",
    scenario: "",
    memory: None,
    beside: None,
    values: &[],
    usual: "",
    measures: &[],
};

/// All of them, in the order of `docs/parameters.md`.
pub const ALL: &[Sweep] = &[
    Sweep {
        name: "headroom",
        parameter: "engine.adaptive.headroomPercent",
        shows: "What all are to have left is taken back and given again with each burst; who hurts is given it first.",
        scenario: "fast-growth-without-swap",
        values: &["15", "20", "25", "30", "40", "50"],
        usual: "25",
        measures: &[SUFFERING, KILLED, COMMANDS],
        ..PLAIN
    },
    Sweep {
        name: "headroom-on-a-fuller-node",
        parameter: "engine.adaptive.headroomPercent",
        shows: "The same guests on 300 MiB less: their peaks do not fit together, and the less is left to all the more often they do.",
        scenario: "fast-growth-without-swap",
        memory: Some(Bytes::from_mib(3900)),
        values: &["15", "20", "25", "30", "40", "50"],
        usual: "25",
        measures: &[SUFFERING, KILLED, COMMANDS],
        ..PLAIN
    },
    Sweep {
        name: "turn",
        parameter: "engine.adaptive.turnSeconds",
        shows: "Longer turns lose less time to swapping, and who waits waits longer.",
        scenario: "more-is-needed-than-there-is",
        values: &["30", "60", "120", "300", "600", "1800"],
        usual: "120",
        measures: &[SUFFERING, LONGEST, COMMANDS],
        ..PLAIN
    },
    Sweep {
        name: "weight",
        parameter: "classes.0.weight",
        shows: "Who takes turns is served for longer the larger its class's weight is; silver's is 100.",
        scenario: "gold-and-silver-take-turns",
        beside: Some((
            "classes",
            r#"[{"name": "gold", "selector": {"matchLabels": {"tier": "gold"}}}, {"name": "silver"}]"#,
        )),
        values: &["25", "100", "200", "400", "1000"],
        usual: "100",
        measures: &[GOLD, SILVER, SUFFERING],
        ..PLAIN
    },
    Sweep {
        name: "floor",
        parameter: "classes.0.floor.percent",
        shows: "What all guests keep at any time is there for none of them to have all that it needs.",
        scenario: "more-is-needed-than-there-is",
        values: &["0", "12", "25", "40", "60"],
        usual: "25",
        measures: &[SUFFERING, LONGEST, KILLED],
        ..PLAIN
    },
    Sweep {
        name: "minimum",
        parameter: "reserve.minimum",
        shows: "What is kept free is promised to no guest, and is there when pods burst.",
        scenario: "pods-that-burst-beside-guests",
        values: &["0%", "2%", "5%", "10%", "20%"],
        usual: "5%",
        measures: &[BUDGET, SUFFERING, ENDED],
        ..PLAIN
    },
    Sweep {
        name: "growth-percentile",
        parameter: "reserve.growthPercentile",
        shows: "Bursts that come more often than the percentile leaves out are kept room for; the largest comes in 1 of 360 intervals.",
        scenario: "pods-that-burst-beside-guests",
        values: &["50", "90", "95", "99", "100"],
        usual: "99",
        measures: &[BUDGET, SUFFERING, ENDED],
        ..PLAIN
    },
    Sweep {
        name: "take-per-guest",
        parameter: "limits.takePerGuest",
        shows: "Slow takes leave the node short for longer, and who needs memory waits for them.",
        scenario: "everybody-surges",
        values: &["1%", "2%", "5%", "10%", "25%", "100%"],
        usual: "10%",
        measures: &[SUFFERING, SHORT, COMMANDS],
        ..PLAIN
    },
    Sweep {
        name: "take-per-node",
        parameter: "limits.takePerNode",
        shows: "The same for all guests together.",
        scenario: "everybody-surges",
        values: &["1%", "2%", "5%", "10%", "25%", "100%"],
        usual: "10%",
        measures: &[SUFFERING, SHORT, ENDED],
        ..PLAIN
    },
    Sweep {
        name: "dead-band",
        parameter: "limits.deadBand",
        shows: "Small changes cost commands; without them guests have less nearly what they should.",
        scenario: "more-is-needed-than-there-is",
        values: &["0%", "1%", "2%", "5%", "10%"],
        usual: "1%",
        measures: &[SUFFERING, COMMANDS],
        ..PLAIN
    },
    Sweep {
        name: "interval",
        parameter: "interval",
        shows: "Takes come no faster than once per interval: longer ones leave the node short, and change turns slowly.",
        scenario: "more-is-needed-than-there-is",
        values: &["2s", "5s", "10s", "30s", "60s"],
        usual: "5s",
        measures: &[SUFFERING, SHORT, ENDED],
        ..PLAIN
    },
];

//! How much an evaluation may cost, so that each ends and none takes a node's memory.

/// What one evaluation may take. Each is far above what policies of people take; together they are what a policy of somebody
/// who means harm can cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Values that are evaluated, and work on long ones: a few tenths of a second. The stock policy takes 7,000 for 100 guests.
    pub steps: u64,
    /// Bytes of all that is made, whether it is still needed or not.
    pub memory: u64,
    /// Bytes of one text, and elements of one list.
    pub length: usize,
    /// How deep evaluation may nest. A call of a function of the policy takes 3 or more of these; MOM gets to 400.
    pub depth: u32,
    /// Bytes that `debug` may log.
    pub log: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 5_000_000, memory: 64 << 20, length: 1 << 20, depth: 1000, log: 64 << 10 }
    }
}

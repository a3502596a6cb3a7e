//! Nodes by chance: what nobody thought of. Each is the scenario file that a person could have written, so that whoever finds
//! something in one keeps it as a file.

use fastrand::Rng;

/// Sizes of guests, MiB.
const SIZES: [u64; 6] = [512, 1024, 1536, 2048, 3072, 4096];
/// What a guest has beside its programs: the emulator, and its kernel (`Reserved` of the model).
const BESIDE: u64 = 64 + 80;
/// No node is smaller, MiB.
const SMALLEST: u64 = 1500;

/// Guests of one kind.
struct Kind {
    written: String,
    size: u64,
    /// The most that all of them need, MiB.
    peak: u64,
}

/// The scenario of this number: three hours of two to five kinds of guests, on a node that has 70 to 120 % of the sum of their peaks.
pub fn scenario(number: u64) -> String {
    let mut chance = Rng::with_seed(number);
    let kinds: Vec<Kind> = (0..chance.u64(2..=5)).map(|kind| kind_of(kind, &mut chance)).collect();
    let sum = |of: fn(&Kind) -> u64| kinds.iter().map(of).fold(0, u64::saturating_add);
    let part = |of: u64, percent: u64| of.saturating_mul(percent) / 100;
    let wanted = part(sum(|kind| kind.peak), chance.u64(70..=120)).max(SMALLEST);
    let memory = wanted.min(part(sum(|kind| kind.size), 90));
    let swap = if chance.u8(..100) < 15 { ", swap: 4Gi" } else { "" };
    let step = if chance.bool() { "200ms" } else { "1s" };
    let mut text = format!(
        "shows: Chance, number {number}.\nlasts: 3h\nstep: {step}\nhost: {{memory: {memory}Mi, kernel: 256Mi{swap}}}\nguests:\n"
    );
    for kind in kinds {
        text.push_str(&kind.written);
    }
    text
}

fn kind_of(number: u64, chance: &mut Rng) -> Kind {
    let size = one_of(&SIZES, chance);
    let count = chance.u64(1..=6);
    let low = chance.u64(5..=30).saturating_mul(size) / 100;
    let high = chance.u64(30..=85).saturating_mul(size) / 100;
    let (demand, most) = demand(low, high, chance);
    let mut written =
        format!("  - {{name: g{number}, count: {count}, size: {size}Mi, overhead: 64Mi, {demand}");
    if chance.u8(..100) < 20 {
        // Half of what is left, and it is read again and again in part.
        let files = size.saturating_sub(most) / 2;
        let hot = one_of(&[10, 50, 90], chance);
        written = format!("{written}, files: {files}Mi, hot: {hot}%");
    }
    if chance.u8(..100) < 30 {
        written = format!("{written}, swap: {size}Mi");
    }
    if chance.u8(..100) < 30 {
        written.push_str(", freePageReporting: false");
    }
    written.push_str("}\n");
    let all = |each: u64| each.saturating_mul(count);
    Kind { written, size: all(size), peak: all(most.saturating_add(BESIDE)) }
}

/// A course between `low` and `high`, and the most of it.
fn demand(low: u64, high: u64, chance: &mut Rng) -> (String, u64) {
    let over = one_of(&[1, 5, 20, 60], chance);
    match chance.u8(..6) {
        0 => (format!("demand: {low}Mi"), low),
        1 => {
            let (lasts, every) = (one_of(&[5, 30, 60, 300], chance), chance.u64(6..=40));
            let adds = high.saturating_sub(low);
            let bursts = format!("{{adds: {adds}Mi, lasts: {lasts}s, every: {every}m}}");
            (format!("demand: {{begins: {low}Mi, bursts: {bursts}}}"), high)
        }
        2 => {
            let (at, (first, then)) =
                (chance.u64(2..=60), if chance.bool() { (low, high) } else { (high, low) });
            let point = format!("{{at: {at}m, is: {then}Mi, over: {over}s}}");
            (format!("demand: {{begins: {first}Mi, points: [{point}]}}"), high)
        }
        _ => {
            let every = one_of(&[3, 5, 10, 20, 40, 60], chance);
            let on = chance.u64(1..every);
            let apart = if chance.bool() { 1 } else { every };
            let up = format!("{{at: {on}m, is: {high}Mi, over: {over}s}}");
            let down = format!("{{at: {every}m, is: {low}Mi, over: 1s}}");
            let repeats = every.saturating_add(1);
            let course = format!("points: [{up}, {down}], repeats: {repeats}m, apart: {apart}m");
            (format!("demand: {{begins: {low}Mi, {course}}}"), high)
        }
    }
}

fn one_of(amounts: &[u64], chance: &mut Rng) -> u64 {
    chance.choice(amounts).copied().unwrap_or_default()
}

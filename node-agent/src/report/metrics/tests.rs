use std::sync::atomic::AtomicBool;
use std::time::Duration;

use overcommit_core::ksm::KsmPlan;
use overcommit_core::ledger::Ledger;
use overcommit_core::reason::Reason;
use overcommit_core::step::Release;
use overcommit_core::units::{Bytes, Permille};
use prometheus_client::encoding::text::encode;

use super::*;
use crate::orders::Standing;
use crate::report::fixture::{guest, report};

/// As many as a large node has.
const GUESTS: usize = 60;
const SCRAPES: usize = 300;

fn action(from: u64, to: u64, reason: &'static str, why: &str) -> Action {
    Action {
        at: jiff::Timestamp::UNIX_EPOCH,
        guest: "shop/guest-001".to_owned(),
        from: Bytes::from_mib(from),
        to: Bytes::from_mib(to),
        reason,
        why: why.to_owned(),
        undoes: reason.starts_with("Undo"),
        failed: None,
    }
}

fn scraped(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

fn series(text: &str, name: &str) -> usize {
    text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count()
}

#[test]
fn a_scrape_has_every_guest_once_whatever_the_loop_is_doing() {
    let mut registry = Registry::default();
    let mut metrics = Metrics::register(&mut registry, Vec::new());
    let of = |reason| Arc::new(report((0..GUESTS).map(|number| guest(number, reason)).collect()));
    let turns = [of(Reason::Enough), of(Reason::GiveNeed)];
    metrics.take_in(&turns[0]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for turn in &turns {
                    metrics.take_in(turn);
                }
            }
        });
        let scrapes: Vec<String> = (0..SCRAPES).map(|_| scraped(&registry)).collect();
        over.store(true, Ordering::Relaxed);
        for text in scrapes {
            for name in ["guest_target_bytes", "guest_actual_bytes", "guest_full_bytes", "guest_reason"] {
                assert_eq!(series(&text, &format!("overcommit_{name}")), GUESTS, "{name}:\n{text}");
            }
        }
    });
}

#[test]
fn series_end_with_their_guest_and_with_their_reason() {
    let mut registry = Registry::default();
    let mut metrics = Metrics::register(&mut registry, Vec::new());
    metrics.take_in(&Arc::new(report(vec![guest(1, Reason::Enough), guest(2, Reason::Enough)])));
    metrics.take_in(&Arc::new(report(vec![guest(2, Reason::Waiting)])));
    let text = scraped(&registry);
    assert!(!text.contains("guest-001") && !text.contains("Enough"), "{text}");
    assert!(
        text.contains(r#"overcommit_guest_reason{namespace="shop",name="guest-002",reason="Waiting"} 1"#),
        "{text}"
    );
}

#[test]
fn the_account_is_told_with_its_reaction_and_is_absent_while_the_host_cannot_be_read() {
    let mut registry = Registry::default();
    let mut metrics = Metrics::register(&mut registry, Vec::new());
    let ledger = Ledger {
        plugged: Bytes::from_mib(7),
        spare: Bytes::from_mib(9),
        reaction: Duration::from_millis(7500),
        ..Ledger::default()
    };
    let turn = report(vec![guest(1, Reason::Enough), guest(2, Reason::Enough)]);
    metrics.take_in(&Arc::new(Report { ledger: Some(ledger), ..turn }));
    let text = scraped(&registry);
    for line in [
        r#"overcommit_node_ledger_bytes{entry="plugged"} 7340032"#,
        r#"overcommit_node_ledger_bytes{entry="spare"} 9437184"#,
        r#"overcommit_node_ledger_bytes{entry="reclaimable"} 20971520"#,
        "overcommit_node_reaction_seconds 7.5",
        "overcommit_troubles 0",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
    }
    metrics.take_in(&Arc::new(Report { ledger: None, ..report(Vec::new()) }));
    let text = scraped(&registry);
    assert!(!text.contains("entry=") && !text.contains("reaction_seconds 7"), "{text}");
}

#[test]
fn a_take_that_is_undone_in_parts_counts_once_and_the_next_one_again() {
    let mut registry = Registry::default();
    let mut metrics = Metrics::register(&mut registry, Vec::new());
    let mut done = |actions: Vec<Action>| {
        metrics.take_in(&Arc::new(Report { actions, ..report(vec![guest(1, Reason::Enough)]) }));
    };
    done(vec![action(1024, 900, "TakeUnused", "")]);
    done(vec![action(900, 950, "UndoHurt", "swaps")]);
    done(vec![action(950, 1024, "UndoHurt", "swaps")]);
    done(vec![action(1024, 900, "TakeUnused", "")]);
    done(vec![action(900, 1024, "UndoHurt", "swaps")]);
    done(vec![Action { failed: Some("gone".to_owned()), ..action(900, 1024, "UndoDeflated", "by itself") }]);
    let text = scraped(&registry);
    assert!(text.contains(r#"overcommit_takes_undone_total{failure="UndoHurt"} 2"#), "{text}");
    let undid_nothing = r#"overcommit_takes_undone_total{failure="UndoDeflated"} 0"#;
    assert!(text.contains(undid_nothing), "one that was not carried out: {text}");
}

#[test]
fn every_count_begins_at_zero_before_its_first_event() {
    let mut registry = Registry::default();
    let _metrics = Metrics::register(&mut registry, Vec::new());
    let text = scraped(&registry);
    let quoted = include_str!("../../../core/src/reason.rs").split('"').skip(1).step_by(2);
    let moves = |code: &&str| {
        ["Take", "Give", "Undo"].iter().any(|start| code.starts_with(start))
            && code.bytes().all(|b| b.is_ascii_alphabetic())
    };
    let codes: Vec<&str> = quoted.filter(moves).collect();
    assert_eq!(codes.len(), 18, "{codes:?}");
    for code in codes {
        for result in ["done", "failed"] {
            let direction = if code.starts_with("Take") { "take" } else { "give" };
            let series = format!(
                r#"overcommit_balloon_actions_total{{direction="{direction}",reason="{code}",result="{result}"}} 0"#
            );
            assert!(text.contains(&series), "{series} is not in\n{text}");
        }
        let undone = format!(r#"overcommit_takes_undone_total{{failure="{code}"}} 0"#);
        assert_eq!(text.contains(&undone), code.starts_with("Undo"), "{code}: {text}");
    }
}

#[test]
fn a_turn_is_timed_once_however_often_its_report_is_told() {
    let mut registry = Registry::default();
    let mut metrics = Metrics::register(&mut registry, Vec::new());
    let turn = report(vec![guest(1, Reason::Enough)]);
    metrics.take_in(&Arc::new(turn.clone()));
    let actions = vec![action(1024, 900, "TakeUnused", "")];
    metrics.take_in(&Arc::new(Report { actions, ..turn }));
    assert!(scraped(&registry).contains("overcommit_turn_duration_seconds_count 1"));
}

#[test]
fn an_object_that_is_gone_is_told_unless_it_went_after_its_release() {
    let mut registry = Registry::default();
    let mut metrics = Metrics::register(&mut registry, Vec::new());
    let mut gone = |release| {
        let turn = Report { standing: Standing::Gone, release, ..report(Vec::new()) };
        metrics.take_in(&Arc::new(turn));
        scraped(&registry).lines().any(|line| line == "overcommit_orders_gone 1")
    };
    assert!(gone(None));
    assert!(!gone(Some(Release::Done)));
}

#[test]
fn every_metric_is_documented() {
    let mut registry = Registry::default();
    let mut metrics = Metrics::register(&mut registry, Vec::new());
    let ksm = KsmPlan {
        reason: overcommit_core::ksm::Reason::Measuring,
        profit: Some(-1),
        cpu: Some(Permille::new(125)),
        ..KsmPlan::default()
    };
    metrics.take_in(&Arc::new(Report { ksm, ..report(vec![guest(1, Reason::Enough)]) }));
    let documented = include_str!("../../../../docs/metrics.md");
    let text = scraped(&registry);
    for series in ["ksm_profit_bytes -1", "ksm_cpu_ratios 0.125", r#"ksm_reason{reason="KsmMeasuring"} 1"#] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_whitespace().next()).collect();
    assert!(names.len() > 10, "{text}");
    for name in names {
        assert!(documented.contains(&format!("`{name}")), "docs/metrics.md does not name {name}");
    }
}

#[test]
fn what_a_program_fails_on_is_counted_once_for_each_evaluation() {
    let mut registry = Registry::default();
    let mut metrics = Metrics::register(&mut registry, Vec::new());
    let told = |ran, failed, trouble: Option<&str>| Told {
        ran,
        failed,
        trouble: trouble.map(Into::into),
        ..Told::default()
    };
    // A relief tells of the last evaluation, and is none.
    for program in [told(true, 2, None), told(false, 2, None), told(true, 0, Some("main:1:1: no"))] {
        metrics.take_in(&Arc::new(Report { program: Some(program), ..report(Vec::new()) }));
    }
    let text = scraped(&registry);
    for line in [
        r#"overcommit_program_failures_total{scope="guest"} 2"#,
        r#"overcommit_program_failures_total{scope="program"} 1"#,
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
    }
}

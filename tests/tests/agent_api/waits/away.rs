//! API server, operator or object are away.

use jiff::Timestamp;
use overcommit_tests::agent::seal;
use overcommit_tests::api::Identity;
use overcommit_tests::machine::sibling;
use overcommit_tests::process::Launch;
use overcommit_tests::session::Session;
use overcommit_tests::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bench::{AFTER_TROUBLE, Bench, NODE, SOON, SYSTEM};

const DEGRADED: &str = "{.status.conditions[?(@.type==\"Degraded\")].reason}";

#[test]
fn while_the_api_server_hangs_the_loop_goes_on_and_afterwards_reports() {
    let bench = Bench::running();
    bench.api.pause_apiserver().unwrap();
    assert_eq!(bench.expect_turning()["revision"], "one");
    let thawed = Timestamp::now();
    bench.api.resume_apiserver().unwrap();
    bench.order("two");
    bench.expect_reported("two");
    let since = |seen: &str| seen.parse::<Timestamp>().is_ok_and(|at| at.as_second() >= thawed.as_second());
    bench.expect("{.status.reportedAt}", since);
}

#[test]
fn an_api_server_that_is_away_is_told_with_the_time_until_it_is_back() {
    let bench = Bench::running();
    let before = Timestamp::now().as_second();
    bench.api.stop_apiserver();
    bench.wait_trouble(&["the API server does not answer (since ", "the last orders hold"]);
    let report = bench.expect_turning();
    let since: Timestamp = report["api_failing_since"].as_str().unwrap().parse().unwrap();
    // Told once it has lasted for 30 s.
    let told = Timestamp::now().as_second();
    assert!(before <= since.as_second() && since.as_second() + 29 <= told, "{report}");
    assert_eq!((&report["revision"], &report["cached"]), (&json!("one"), &json!(false)), "{report}");
    bench.wait_answer("/metrics", 200, &["overcommit_api_failing 1\n", "overcommit_troubles 1\n"]);
    assert_eq!(bench.get("/readyz").unwrap().0, 200, "it works");
    bench.api.start_apiserver().unwrap();
    bench.order("two");
    bench.expect_reported("two");
    bench.wait_no_trouble();
    bench.wait_answer("/metrics", 200, &["overcommit_api_failing 0\n"]);
}

#[test]
fn while_the_operator_is_gone_the_agent_follows_its_object() {
    let mut bench = Bench::start();
    bench.api.kubectl(&["label", "node", NODE, "kubevirt.io/schedulable=true"]).unwrap();
    let who = Identity { namespace: SYSTEM, name: "overcommit-operator", node: None };
    let operator = bench.api.as_service_account(who).unwrap();
    let start = || {
        let launch = Launch::new("operator", sibling("overcommit-operator").unwrap())
            .args(["run", "--http=127.0.0.1:0"])
            .env("KUBECONFIG", operator.kubeconfig_path());
        Session::shared().unwrap().spawn(launch).unwrap()
    };
    let first = start();
    let policy = json!({"apiVersion": "overcommit.dev/v1alpha1", "kind": "OvercommitPolicy",
        "metadata": {"name": "p"}, "spec": {"interval": "1s"}});
    bench.api.apply(&policy.to_string()).unwrap();
    bench.start_agent();
    bench.wait_report("the operator's orders", |report| report["policy"] == "p");
    let ready = "{.status.conditions[?(@.type==\"Ready\")].reason}";
    bench.api.wait_field("", "ocp/p", ready, AFTER_TROUBLE, |reason| reason == "Observing").unwrap();

    first.signal(Signal::KILL).unwrap();
    first.wait(SOON).unwrap();
    bench.expect_turning();
    let pause = ["patch", "noc", NODE, "--type=merge", "--patch", r#"{"spec":{"paused":true}}"#];
    bench.api.kubectl(&pause).unwrap();
    bench.wait_report("the pause that an administrator wrote", |report| report["paused"] == true);
    let _second = start();
    bench.wait_report("what the operator makes of that", |report| report["paused"] == false);
}

#[test]
fn restarted_without_an_api_server_it_works_from_its_cached_orders() {
    let mut bench = Bench::running();
    bench.stop_agent();
    bench.api.stop_apiserver();
    bench.start_agent();
    let report = bench.wait_report("a report", |_| true);
    assert_eq!((&report["revision"], &report["cached"]), (&json!("one"), &json!(true)), "{report}");
    bench.expect_turning();
    bench.api.start_apiserver().unwrap();
    bench.wait_report("orders from the API server", |report| report["cached"] == false);
    bench.expect(DEGRADED, |reason| reason == "AsExpected" || reason == "Overcommitted");
}

#[test]
fn orders_from_the_cache_are_told_in_a_condition_until_the_api_server_tells_them() {
    let mut bench = Bench::running();
    bench.stop_agent();
    // It answers, and does not tell the orders.
    bench.grant(&["get"]);
    bench.start_agent();
    bench.expect(DEGRADED, |reason| reason == "CachedOrders");
    // Once that lasts: why, and what to do.
    bench.wait_trouble(&["may not list nodeovercommits", "(since "]);
    let message = "{.status.conditions[?(@.type==\"Degraded\")].message}";
    bench.expect(message, |said| {
        said.contains("grant it to ServiceAccount overcommit-system/overcommit-agent")
    });
    bench.grant(&["get", "list", "watch"]);
    bench.wait_report("orders from the API server", |report| report["cached"] == false);
    bench.wait_no_trouble();
    bench.expect(DEGRADED, |reason| reason == "AsExpected" || reason == "Overcommitted");
}

#[test]
fn cached_orders_that_cannot_be_read_are_set_aside_and_the_api_server_is_waited_for() {
    let mut bench = Bench::running();
    bench.stop_agent();
    let cache = bench.dir.join("orders.json");
    let whole = std::fs::read(&cache).unwrap();
    std::fs::write(&cache, &whole[..whole.len() / 2]).unwrap();
    bench.api.stop_apiserver();
    bench.start_agent();
    bench.expect_said("the cached orders cannot be used; waiting for the API server");
    let refused = |said: String| if said.contains("answer:") { Ok(said) } else { Err(said) };
    let said = bench.wait(SOON, "an answer without orders", || {
        bench.ask().map_or_else(refused, |report| Err(report.to_string()))
    });
    let why = ["waiting for the API server's first answer", "the API server does not answer"];
    assert!(why.iter().all(|words| said.contains(words)), "{said}");
    assert_eq!(bench.get("/readyz").unwrap().0, 503);
    let aside = std::fs::read(bench.dir.join("orders.json.corrupt")).unwrap();
    assert_eq!(aside, &whole[..whole.len() / 2]);
    assert!(!cache.exists());
    bench.api.start_apiserver().unwrap();
    bench.wait_report("orders from the API server", |report| report["revision"] == "one");
    bench.expect_kept("one");
}

#[test]
fn without_orders_and_with_guests_in_its_journal_it_says_so_until_the_api_server_tells_them() {
    let mut bench = Bench::running();
    bench.stop_agent();
    std::fs::remove_file(bench.dir.join("orders.json")).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    // A process that nobody knows is not known to have ended.
    let guest = json!({"incarnation": null, "original": {"target": 512, "period": null}, "target": 300});
    let journal = json!({"boot_id": boot.trim(), "guests": {"pod/uuid": guest}});
    seal(&bench.dir, "journal", &journal).unwrap();
    bench.api.stop_apiserver();
    bench.start_agent();
    let report =
        bench.wait_report("a report without orders", |report| report["orders_missing_since"].is_string());
    assert_eq!((&report["paused"], &report["version"]), (&json!(true), &Value::Null), "{report}");
    bench.wait_trouble(&["no orders since ", "let the agent reach the API server"]);
    bench.wait_answer("/metrics", 200, &["overcommit_orders_missing 1\n"]);
    assert_eq!(bench.get("/readyz").unwrap().0, 503);
    bench.api.start_apiserver().unwrap();
    let report = bench.wait_report("orders from the API server", |report| report["revision"] == "one");
    assert_eq!(
        (&report["paused"], &report["orders_missing_since"]),
        (&json!(false), &Value::Null),
        "{report}"
    );
    bench.wait_answer("/metrics", 200, &["overcommit_orders_missing 0\n"]);
    bench.wait_answer("/readyz", 200, &["ok"]);
    let kept = std::fs::read_to_string(bench.dir.join("journal")).unwrap();
    assert!(kept.contains("\"target\":512"), "nothing is forgotten: {kept}");
}

#[test]
fn a_deleted_object_is_no_intent_its_orders_hold_and_nothing_is_taken() {
    let bench = Bench::running();
    bench.api.kubectl(&["delete", "noc", NODE]).unwrap();
    bench.expect_said("the NodeOvercommit of this node is gone");
    let report = bench.expect_turning();
    let said = (&report["revision"], &report["release"], &report["paused"]);
    assert_eq!(said, (&json!("one"), &Value::Null, &json!(true)), "{report}");
    bench.order("two");
    bench.expect_reported("two");
}

#[test]
fn a_watch_that_lost_its_place_lists_again() {
    // A loop that is frozen for so long would be started anew.
    let bench = Bench::running_with(&["--unattended"]);
    // Frozen, it misses changes that the next API server does not remember one by one.
    bench.agent().signal(Signal::STOP).unwrap();
    bench.api.stop_apiserver();
    bench.api.start_apiserver().unwrap();
    bench.order("two");
    bench.api.forget_history().unwrap();
    bench.api.stop_apiserver();
    bench.api.start_apiserver().unwrap();
    bench.agent().signal(Signal::CONT).unwrap();
    bench.expect_reported("two");
    // The orders may be known before: the answer to a report tells them too.
    let told = || match bench.agent().output() {
        log if log.contains("410") || log.contains("too old") => Ok(()),
        log => Err(log),
    };
    until(SOON, "its log to tell of the end of history", told).unwrap();
}

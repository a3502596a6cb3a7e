//! The API server refuses what the agent needs.

use serde_json::Value;

use crate::bench::Bench;

const ACCOUNT: &str = "ServiceAccount overcommit-system/overcommit-agent";

#[test]
fn without_the_right_to_read_its_orders_it_is_not_ready_and_says_what_to_grant_to_whom() {
    let mut bench = Bench::start();
    bench.grant(&["get"]);
    bench.start_agent();
    let missing = ["waiting for the API server's first answer", "may not list nodeovercommits", ACCOUNT];
    bench.wait_answer("/readyz", 503, &missing);
    let said = bench.ask().unwrap_err();
    assert!(missing.iter().all(|words| said.contains(words)), "{said}");
    assert_eq!(bench.get("/healthz").unwrap().0, 200, "killing it grants nothing");
    bench.grant(&["get", "list", "watch"]);
    let none = ["no policy selects this node", "no NodeOvercommit \"a\""];
    bench.wait_answer("/readyz", 200, &none);
    let said = bench.ask().unwrap_err();
    assert!(none.iter().all(|words| said.contains(words)), "{said}");
    bench.order("one");
    bench.expect_reported("one");
    bench.wait_answer("/readyz", 200, &["ok\n"]);
}

#[test]
fn with_a_token_that_the_api_server_does_not_believe_it_is_not_ready_and_says_so() {
    let mut bench = Bench::start();
    bench.disown_agents();
    bench.start_agent();
    bench.wait_answer(
        "/readyz",
        503,
        &["does not believe who the agent is (401)", "check its ServiceAccount"],
    );
}

#[test]
fn without_the_right_to_write_its_status_it_works_and_names_the_right_and_the_account() {
    let mut bench = Bench::start();
    bench.grant_status(&["get"]);
    bench.order("one");
    bench.start_agent();
    bench.wait_trouble(&["may not patch nodeovercommits/status", ACCOUNT, "(since "]);
    let report = bench.expect_turning();
    assert!(report["api_failing_since"].is_string() && report["revision"] == "one", "{report}");
    bench.grant_status(&["patch"]);
    bench.expect_reported("one");
    bench.wait_no_trouble();
    assert_eq!(bench.ask().unwrap()["api_failing_since"], Value::Null);
}

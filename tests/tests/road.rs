//! The whole road: Helm, the operator, the agent, KubeVirt's launchers, a real guest's balloon, and back.

use anyhow::Result;
use overcommit_tests::node::Cluster;
use overcommit_tests::road::{Road, SIZE_MIB, guest};

#[test]
fn a_policy_moves_memory_between_real_vmis_and_gives_all_of_it_back() -> Result<()> {
    let tell = |what: &str| println!("{what}");
    let road = Road::new(Cluster::shared()?, &tell);
    road.install()?;
    road.start_guests()?;

    road.apply("Observe", "Observing")?;
    let squeeze = road.squeeze()?;
    let planned = road.wait_settled()?;
    assert!(guest(&planned, "idle").is_some(), "the plan names the idle guest: {planned}");
    for name in ["idle", "worker", "opted-out"] {
        assert_eq!(road.actual_mib(name)?, SIZE_MIB, "{name} was touched while observing");
    }

    road.apply("Enforce", "Enforcing")?;
    road.wait_settled()?;
    let (worker, idle) = road.wait_moved()?;
    assert!(worker > idle);
    assert_eq!(road.actual_mib("opted-out")?, SIZE_MIB);
    assert!(road.explain("idle")?.contains("default/idle:"));

    assert_eq!(squeeze.opened(), None, "the valve opened: nothing was measured");
    squeeze.release()?;
    road.delete_policy()?;
    road.uninstall()
}

//! Tests of `build`.

use super::*;
use crate::fixture::{at, cluster, guest, labels, launcher, node, policy, with_guests, with_launchers};
use crate::index::{Change, Delta};

fn built(index: &Index) -> Built {
    let checked = index.policies["gold"].checked().unwrap();
    spec("gold", checked, &index.nodes["a"], &Population::of(index), index)
}

#[test]
fn guests_of_the_node_are_listed_in_order() {
    let index = with_guests(
        cluster(&[policy("gold", 0)], &[node("a")]),
        &[guest("y", "a"), guest("x", "a"), guest("z", "b")],
    );
    let names: Vec<_> = built(&index).spec.guests.into_iter().map(|g| g.name).collect();
    assert_eq!(names, ["x", "y"]);
}

#[test]
fn a_namespace_opts_its_guests_out() {
    let mut index = with_guests(cluster(&[policy("gold", 0)], &[node("a")]), &[guest("x", "a")]);
    let shop =
        Meta { name: "shop".into(), annotations: labels(&[(EXCLUDE_ANNOTATION, "true")]), ..Meta::default() };
    index.take(Change::Namespaces(Delta::Apply(shop)));
    assert_eq!(built(&index).spec.guests[0].excluded, Some(Exclusion::Annotation));
    assert_eq!(built(&index).spec.guests[0].class.as_deref(), Some("default"));
}

#[test]
fn a_guest_migrates_while_its_target_is_another_node() {
    let target = |to: &str| {
        let mut guest = guest("x", "a");
        guest.labels.insert(KUBEVIRT_MIGRATION_TARGET_LABEL.into(), to.into());
        let index = with_guests(cluster(&[policy("gold", 0)], &[node("a")]), &[guest]);
        built(&index).spec.guests[0].migrating
    };
    assert!(target("b"));
    assert!(!target("a"));
    assert!(!target(""));
}

#[test]
fn the_annotation_on_the_node_pauses_it() {
    let paused = Meta { annotations: labels(&[(PAUSE_ANNOTATION, "true")]), ..node("a") };
    assert!(built(&cluster(&[policy("gold", 0)], &[paused])).spec.paused);
    assert!(!built(&cluster(&[policy("gold", 0)], &[node("a")])).spec.paused);
}

#[test]
fn kubevirt_manages_ksm_where_it_says_so() {
    let manager = |label: &str, annotation: &str| {
        let node = Meta { annotations: labels(&[(KUBEVIRT_KSM_ANNOTATION, annotation)]), ..node("a") };
        let mut node = node;
        node.labels.insert(KUBEVIRT_KSM_LABEL.into(), label.into());
        built(&cluster(&[policy("gold", 0)], &[node])).spec.facts.ksm_manager
    };
    let kubevirt = Some(KsmManager::KubeVirt);
    assert_eq!(manager("true", "false"), kubevirt);
    assert_eq!(manager("false", "true"), kubevirt, "it is about to stop it");
    assert_eq!(manager("false", "false"), None);
    assert_eq!(built(&cluster(&[policy("gold", 0)], &[node("a")])).spec.facts, NodeFacts::default());
}

#[test]
fn what_does_not_fit_is_left_out_by_weight_and_counted() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    for n in 0..400 {
        let mut one = guest(&format!("guest-{n:03}"), "a");
        if n < 200 {
            one.annotations = labels(&[(EXCLUDE_ANNOTATION, "true")]);
        }
        index.take(Change::Guests(Delta::Apply(one)));
    }
    let Built { spec, left_out } = built(&index);
    assert!(serde_json::to_vec(&spec).unwrap().len() <= SPEC_MAX);
    assert_eq!(spec.guests.len() + left_out.guests, 400);
    assert!(spec.guests.iter().filter(|g| g.excluded.is_none()).count() == 200, "{left_out:?}");
    assert!(spec.guests.is_sorted());
}

#[test]
fn a_guest_is_known_by_its_own_pods() {
    let index = with_guests(cluster(&[policy("gold", 0)], &[node("a")]), &[guest("x", "a"), guest("y", "a")]);
    let foreign = Launcher { namespace: "elsewhere".into(), ..launcher("foreign", "x") };
    let pods = [launcher("x-2", "x"), launcher("x-1", "x"), foreign, launcher("nobodys", "")];
    let index = with_launchers(index, &pods);
    let guests = built(&index).spec.guests;
    assert_eq!(guests[0].pods, ["uid-x-1", "uid-x-2"]);
    assert_eq!(guests[1].pods, Vec::<String>::new());
}

/// A node with guests of two tenants; one of them made so many pods that say they are the first guest's.
fn flooded(pods: i64) -> Index {
    let guests = [guest("a-flood", "a"), guest("b", "a"), guest("c", "a")];
    let mut index = with_guests(cluster(&[policy("gold", 0)], &[node("a")]), &guests);
    for n in 0..pods {
        let pod = Launcher { created: at(n), ..launcher(&format!("flood-{n:04}"), "a-flood") };
        index.take(Change::Launchers(Delta::Apply(pod)));
    }
    for name in ["b", "c"] {
        index.take(Change::Launchers(Delta::Apply(launcher(&format!("{name}-1"), name))));
    }
    index
}

#[test]
fn whoever_floods_a_guest_with_pods_pushes_out_no_other_guest() {
    let Built { spec, left_out } = built(&flooded(2000));
    assert_eq!(left_out, LeftOut { guests: 0, pods: 1996 });
    assert_eq!(spec.guests[0].pods, [1996, 1997, 1998, 1999].map(|n| format!("uid-flood-{n}")));
    assert_eq!((spec.guests[1].pods.len(), spec.guests[2].pods.len()), (1, 1));
    // Nor where what it has stays as it is.
    let mut index = flooded(0);
    let before = built(&index).spec;
    for (_, pod) in flooded(2000).launchers {
        index.take(Change::Launchers(Delta::Apply(pod)));
    }
    let after = frozen(&before, &index.nodes["a"], &Population::of(&index), &index);
    assert!(size(&after.spec) <= SPEC_MAX && after.left_out.guests == 0, "{} bytes", size(&after.spec));
}

#[test]
fn what_one_tenant_makes_long_goes_before_what_others_have() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    for n in 0..110 {
        let long =
            Meta { namespace: "a-tenant".into(), ..guest(&format!("{}-{n:03}", "l".repeat(249)), "a") };
        index.take(Change::Guests(Delta::Apply(long)));
        index.take(Change::Guests(Delta::Apply(guest(&format!("short-{n:03}"), "a"))));
    }
    let Built { spec, left_out } = built(&index);
    assert_eq!(spec.guests.iter().filter(|g| g.name.starts_with("short")).count(), 110, "{left_out:?}");
    assert!(spec.guests.len() > 110 && left_out.guests > 0 && size(&spec) <= SPEC_MAX, "what fits is listed");
}

#[test]
fn an_entry_that_does_not_fit_takes_only_itself_away() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    index.take(Change::Guests(Delta::Apply(guest("small", "a"))));
    let mut spec = built(&index).spec;
    let small = Listed { entry: spec.guests.remove(0), more_pods: 0 };
    let mut huge = small.clone();
    huge.entry.name = "h".repeat(SPEC_MAX);
    spec.resolved.classes[0].weight = 5;
    // Before the other by weight.
    let mut other = small.clone();
    other.entry.class = None;
    let built = fit(spec, vec![huge, other.clone()]);
    assert_eq!((built.spec.guests, built.left_out.guests), (vec![other.entry], 1));
}

#[test]
fn a_full_node_fits_with_every_guest_migrating() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    let uid = |n: usize, kind: usize| format!("01234567-89ab-cdef-0123-{kind:04}{n:08}");
    // The kubelet's default for the pods of a node (pkg/kubelet/apis/config/v1beta1/defaults.go, `MaxPods`).
    for n in 0..110 {
        let name = format!("a-name-of-forty-letters-and-some-more-{n:03}");
        let mut one = Meta { uid: uid(n, 0), ..guest(&name, "a") };
        one.namespace = "a-namespace-of-thirty-letters-".into();
        for kind in 1..3 {
            let (namespace, name) = (one.namespace.clone(), format!("{name}-{kind}"));
            let guest = one.uid.clone();
            let pod = Launcher { namespace, name, uid: uid(n, kind), guest, ..Launcher::default() };
            index.take(Change::Launchers(Delta::Apply(pod)));
        }
        index.take(Change::Guests(Delta::Apply(one)));
    }
    let Built { spec, left_out } = built(&index);
    assert_eq!((spec.guests.len(), left_out), (110, LeftOut::default()), "{} bytes", size(&spec));
    assert!(spec.guests.iter().all(|guest| guest.pods.len() == 2));
}

#[test]
fn a_frozen_spec_follows_only_what_makes_the_agent_do_less() {
    let index = with_guests(cluster(&[policy("gold", 0)], &[node("a")]), &[guest("x", "a"), guest("y", "a")]);
    let before = built(&index).spec;
    let mut out = guest("x", "a");
    out.annotations = labels(&[(EXCLUDE_ANNOTATION, "true")]);
    let index = with_launchers(with_guests(index, &[out, guest("new", "a")]), &[launcher("x-1", "x")]);
    let after = frozen(&before, &index.nodes["a"], &Population::of(&index), &index).spec;
    assert_eq!(after.guests.len(), 1);
    assert_eq!(after.guests[0].excluded, Some(Exclusion::Annotation));
    assert_eq!(after.guests[0].pods, ["uid-x-1"]);
    assert_eq!(after.revision, before.revision);
}

//! What a domain's definition says about its memory (<https://libvirt.org/formatdomain.html>).

use overcommit_core::sample::{GuestConfig, Untouchable};
use overcommit_core::units::Bytes;
use roxmltree::{Document, Node, ParsingOptions};

/// Largest definition accepted: real ones are about 30 KiB, libvirt sends up to 4 MiB.
const CAP: usize = 1 << 20;
/// Most elements and texts accepted.
const NODES: u32 = 50_000;
/// Most attributes of an element accepted: the parser compares each with all others.
const ATTRIBUTES: usize = 1000;
/// Most declarations of namespaces accepted: the parser hands each down to every element below, and libvirt's own are about
/// five.
const NAMESPACES: usize = 64;

/// The parts that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) config: GuestConfig,
    /// Statistics period in seconds; absent without a balloon.
    pub(crate) period: Option<u32>,
    /// The most that each virtio-mem device can have; QEMU maps each of them apart.
    pub(crate) pluggable: Vec<Bytes>,
}

/// One virtio-mem device.
struct Pluggable {
    size: Bytes,
    requested: Bytes,
    current: Bytes,
}

/// Why a definition is not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionError {
    #[error("the domain's definition is {0} bytes long, more than {CAP}")]
    TooLong(usize),
    #[error("the domain's definition has more {0} than any that libvirt writes")]
    TooMany(&'static str),
    #[error("the domain's definition is no XML: {0}")]
    Xml(#[from] roxmltree::Error),
    #[error("the domain's definition has no usable <{0}>")]
    Missing(&'static str),
}

/// Understands a live definition.
pub(crate) fn parse(xml: &str) -> Result<Definition, DefinitionError> {
    if xml.len() > CAP {
        return Err(DefinitionError::TooLong(xml.len()));
    }
    refuse_costly(xml)?;
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(xml, options)?;
    let domain = document.root_element();
    let devices = child(domain, "devices");
    let total = child(domain, "memory").and_then(size).ok_or(DefinitionError::Missing("memory"))?;
    let balloon = devices
        .and_then(|d| child(d, "memballoon"))
        .filter(|b| b.attribute("model").is_some_and(|model| model.starts_with("virtio")));
    let pluggable = pluggable(devices)?;
    let period = |b| child(b, "stats").and_then(|s| s.attribute("period")?.parse().ok()).unwrap_or(0);
    Ok(Definition {
        config: GuestConfig {
            full: total.minus(pluggable.iter().map(|p| p.size).sum()),
            plugged: pluggable.iter().map(|p| p.current.max(p.requested)).sum(),
            plugging: pluggable.iter().any(|p| p.current != p.requested),
            has_balloon: balloon.is_some(),
            free_page_reporting: balloon.is_some_and(|b| b.attribute("freePageReporting") == Some("on")),
            untouchable: untouchable(domain, devices),
            vcpus: child(domain, "vcpu").and_then(vcpus),
        },
        period: balloon.map(period),
        pluggable: pluggable.into_iter().map(|p| p.size).collect(),
    })
}

/// The parser's time grows with the square of an element's attributes and with the cube of nested namespaces, and a
/// tenant's libvirt may send any. Each attribute has a `=` of its own within its tag, each namespace an `xmlns`.
fn refuse_costly(xml: &str) -> Result<(), DefinitionError> {
    let attributes = |tag: &str| tag.bytes().filter(|b| *b == b'=').count();
    if xml.split('<').any(|tag| attributes(tag) > ATTRIBUTES) {
        return Err(DefinitionError::TooMany("attributes"));
    }
    if xml.matches("xmlns").count() > NAMESPACES {
        return Err(DefinitionError::TooMany("namespaces"));
    }
    Ok(())
}

/// Stands in for a definition that is not understood: never touched, because it has no balloon, and charged at the
/// most that libvirt says it may use.
pub(crate) fn unknown(max: Bytes) -> Definition {
    let config = GuestConfig {
        full: max,
        plugged: Bytes::ZERO,
        plugging: false,
        has_balloon: false,
        free_page_reporting: false,
        untouchable: Vec::new(),
        vcpus: None,
    };
    Definition { config, period: None, pluggable: Vec::new() }
}

fn child<'a>(node: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    node.children().find(|n| n.has_tag_name(name))
}

fn children<'a>(node: Option<Node<'a, 'a>>, name: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
    node.into_iter().flat_map(|n| n.children()).filter(move |n| n.has_tag_name(name))
}

/// All virtio-mem devices: `<memory>` includes their sizes, the balloon does not. What one does not say of itself is taken
/// for the most that it can be.
fn pluggable(devices: Option<Node<'_, '_>>) -> Result<Vec<Pluggable>, DefinitionError> {
    let of = |memory: Node<'_, '_>| {
        let says = |name| child(child(memory, "target")?, name).and_then(amount);
        let size = says("size").filter(|size| !size.is_zero());
        let size = size.ok_or(DefinitionError::Missing("devices/memory/target/size"))?;
        let requested = says("requested").unwrap_or(size);
        Ok(Pluggable { size, requested, current: says("current").unwrap_or(requested) })
    };
    children(devices, "memory").filter(|m| m.attribute("model") == Some("virtio-mem")).map(of).collect()
}

/// How many it has now: fewer than it may have where some are plugged in later.
fn vcpus(node: Node<'_, '_>) -> Option<u32> {
    node.attribute("current").or_else(|| node.text())?.trim().parse().ok().filter(|count| *count > 0)
}

/// A size that is not nothing.
fn size(node: Node<'_, '_>) -> Option<Bytes> {
    amount(node).filter(|bytes| !bytes.is_zero())
}

/// A size with its unit; KiB where none is given.
fn amount(node: Node<'_, '_>) -> Option<Bytes> {
    let number: u64 = node.text()?.trim().parse().ok()?;
    let unit: u64 = match node.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1_000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit).map(Bytes::new)
}

fn untouchable(domain: Node<'_, '_>, devices: Option<Node<'_, '_>>) -> Vec<Untouchable> {
    let backing = child(domain, "memoryBacking");
    let tune = child(domain, "cputune");
    let has = |node: Option<Node<'_, '_>>, name| node.and_then(|n| child(n, name)).is_some();
    let facts = [
        (Untouchable::HugePages, has(backing, "hugepages")),
        (
            Untouchable::DedicatedCpus,
            children(tune, "vcpupin").any(|pin| is_one_cpu(pin.attribute("cpuset"))),
        ),
        (Untouchable::Realtime, has(tune, "vcpusched")),
        (Untouchable::HostDevice, has_host_device(devices)),
        (Untouchable::LaunchSecurity, has(Some(domain), "launchSecurity")),
        (Untouchable::LockedMemory, has(backing, "locked")),
    ];
    facts.into_iter().filter_map(|(fact, holds)| holds.then_some(fact)).collect()
}

/// KubeVirt pins each virtual CPU of a guest with dedicated CPUs to exactly one; a range only bounds it.
fn is_one_cpu(cpuset: Option<&str>) -> bool {
    cpuset.is_some_and(|set| set.trim().parse::<u32>().is_ok())
}

/// Devices for which all guest memory is pinned: VFIO in its forms, and vDPA.
fn has_host_device(devices: Option<Node<'_, '_>>) -> bool {
    let kind = |name, kinds: &'static [&str]| {
        children(devices, name).any(move |d| d.attribute("type").is_some_and(|t| kinds.contains(&t)))
    };
    children(devices, "hostdev").next().is_some()
        || kind("interface", &["hostdev", "vdpa"])
        || kind("disk", &["nvme", "vhostvdpa"])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A definition as KubeVirt's launcher writes it, shortened.
    fn kubevirt(extra: &str, devices: &str) -> String {
        format!(
            "<domain type='kvm' id='1' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
               <name>default_tiny</name><uuid>5a9f9c3e-1111-2222-3333-444444444444</uuid>
               <maxMemory slots='16' unit='KiB'>4194304</maxMemory>
               <memory unit='KiB'>1310720</memory><currentMemory unit='KiB'>1000000</currentMemory>
               <vcpu placement='static'>1</vcpu>{extra}
               <devices>
                 <memory model='virtio-mem'><target><size unit='KiB'>262144</size><node>0</node>
                   <block unit='KiB'>2048</block><requested unit='KiB'>131072</requested>
                   <current unit='KiB'>131072</current></target></memory>
                 <memballoon model='virtio-non-transitional' freePageReporting='on'><stats period='10'/></memballoon>
                 {devices}
               </devices>
             </domain>"
        )
    }

    #[test]
    fn the_full_size_leaves_pluggable_memory_out() {
        let definition = parse(&kubevirt("", "")).unwrap();
        assert_eq!(definition.config.full, Bytes::from_gib(1));
        assert_eq!((definition.config.plugged, definition.config.plugging), (Bytes::from_mib(128), false));
        assert_eq!(definition.pluggable, [Bytes::from_mib(256)]);
        assert!(definition.config.has_balloon && definition.config.free_page_reporting);
        assert_eq!(definition.period, Some(10));
        assert_eq!(definition.config.untouchable, []);
        assert_eq!(definition.config.vcpus, Some(1));
    }

    #[test]
    fn processors_are_those_that_it_has_now() {
        for (vcpu, want) in [
            ("<vcpu>4</vcpu>", Some(4)),
            ("<vcpu placement='static' current='2'>\n4 </vcpu>", Some(2)),
            ("<vcpu>0</vcpu>", None),
            ("<vcpu>-1</vcpu>", None),
            ("<vcpu/>", None),
            ("", None),
        ] {
            let xml = format!("<domain><memory>1024</memory>{vcpu}</domain>");
            assert_eq!(parse(&xml).unwrap().config.vcpus, want, "{vcpu}");
        }
    }

    #[test]
    fn plugged_memory_is_what_the_guest_has_or_was_promised() {
        let device = |target: &str| {
            format!("<memory model='virtio-mem'><target><size unit='GiB'>4</size>{target}</target></memory>")
        };
        let plugged = |devices: &[String]| {
            let devices = devices.concat();
            let xml = format!("<domain><memory unit='GiB'>64</memory><devices>{devices}</devices></domain>");
            let Definition { config, pluggable, .. } = parse(&xml).unwrap();
            (config.plugged.to_mib_floor(), config.plugging, pluggable.len())
        };
        let at = |requested, current| {
            device(&format!(
                "<requested unit='MiB'>{requested}</requested><current unit='MiB'>{current}</current>"
            ))
        };
        assert_eq!(plugged(&[]), (0, false, 0));
        assert_eq!(plugged(&[at(0, 0)]), (0, false, 1));
        assert_eq!(plugged(&[at(1024, 512)]), (1024, true, 1), "it may plug the rest at any moment");
        assert_eq!(plugged(&[at(512, 1024)]), (1024, true, 1), "it has not let go of it yet");
        assert_eq!(plugged(&[at(512, 512), at(256, 256)]), (768, false, 2));
        assert_eq!(plugged(&[at(512, 256), at(256, 512)]), (1024, true, 2), "sums hide nothing");
        assert_eq!(plugged(&[device("")]), (4096, false, 1), "a device that does not say");
    }

    #[test]
    fn each_fact_that_forbids_touching_is_found() {
        use Untouchable as U;
        for (extra, devices, want) in [
            ("<memoryBacking><hugepages/></memoryBacking>", "", U::HugePages),
            ("<memoryBacking><locked/></memoryBacking>", "", U::LockedMemory),
            ("<cputune><vcpupin vcpu='0' cpuset='3'/></cputune>", "", U::DedicatedCpus),
            ("<cputune><vcpusched vcpus='0' scheduler='fifo' priority='1'/></cputune>", "", U::Realtime),
            ("<launchSecurity type='sev'/>", "", U::LaunchSecurity),
            ("", "<hostdev mode='subsystem' type='usb'/>", U::HostDevice),
            ("", "<interface type='hostdev'/>", U::HostDevice),
            ("", "<interface type='vdpa'/>", U::HostDevice),
            ("", "<disk type='nvme'/>", U::HostDevice),
        ] {
            assert_eq!(
                parse(&kubevirt(extra, devices)).unwrap().config.untouchable,
                [want],
                "{extra}{devices}"
            );
        }
    }

    #[test]
    fn ordinary_settings_forbid_nothing() {
        for (extra, devices) in [
            ("<cputune><vcpupin vcpu='0' cpuset='0-3'/><shares>100</shares></cputune>", ""),
            ("<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>", ""),
            ("", "<interface type='ethernet'/><disk type='file'/>"),
        ] {
            assert_eq!(parse(&kubevirt(extra, devices)).unwrap().config.untouchable, [], "{extra}{devices}");
        }
    }

    #[test]
    fn a_guest_without_balloon_is_told() {
        for model in ["none", "xen"] {
            let xml = format!(
                "<domain><memory>1024</memory><devices><memballoon model='{model}'/></devices></domain>"
            );
            let definition = parse(&xml).unwrap();
            assert!(!definition.config.has_balloon);
            assert_eq!(definition.period, None);
        }
        assert!(!parse("<domain><memory>1024</memory></domain>").unwrap().config.has_balloon);
    }

    #[test]
    fn units_are_heeded() {
        for (text, want) in [
            ("<memory>2048</memory>", Bytes::from_mib(2)),
            ("<memory unit='b'>4096</memory>", Bytes::new(4096)),
            ("<memory unit='GiB'>3</memory>", Bytes::from_gib(3)),
            ("<memory unit='MB'>1</memory>", Bytes::new(1_000_000)),
        ] {
            assert_eq!(parse(&format!("<domain>{text}</domain>")).unwrap().config.full, want);
        }
    }

    #[test]
    fn hostile_definitions_are_refused() {
        let deep = format!("<domain><memory>1</memory>{}", "<a>".repeat(200_000));
        let closed =
            format!("<domain><memory>1</memory>{}{}</domain>", "<a>".repeat(40_000), "</a>".repeat(40_000));
        let bomb = "<!DOCTYPE d [<!ENTITY a 'aaaa'>]><domain><memory>1</memory>&a;</domain>";
        let long = format!("<domain><memory>1</memory><a>{}</a></domain>", "x".repeat(CAP));
        for xml in [
            "",
            "no",
            "<domain/>",
            "<domain><memory>-1</memory></domain>",
            "<domain><memory unit='x'>1</memory></domain>",
            "<domain><memory>99999999999999999</memory></domain>",
            &deep,
            bomb,
            &long,
        ] {
            assert!(parse(xml).is_err(), "{}", xml.get(..60).unwrap_or(xml));
        }
        let wide = (0..50_000).map(|n| format!(" a{n}=''")).collect::<Vec<_>>().concat();
        let wide = format!("<domain{wide}><memory>1</memory></domain>");
        assert!(matches!(parse(&wide), Err(DefinitionError::TooMany("attributes"))));
        let handed_down = (0..2000).map(|n| format!("<a xmlns:a{n}='a'>")).collect::<Vec<_>>().concat();
        let handed_down = format!("<domain><memory>1</memory>{handed_down}{}</domain>", "</a>".repeat(2000));
        assert!(matches!(parse(&handed_down), Err(DefinitionError::TooMany("namespaces"))));
        // On a stack as small as that of a connection's thread.
        let thread = std::thread::Builder::new().stack_size(crate::link::STACK);
        let parsed = thread.spawn(move || parse(&closed).is_ok()).unwrap().join();
        assert!(parsed.unwrap(), "deep nesting within the cap is harmless");
        let lying = "<domain><memory>1024</memory><devices><memory model='virtio-mem'/></devices></domain>";
        assert!(matches!(parse(lying), Err(DefinitionError::Missing(_))));
    }
}

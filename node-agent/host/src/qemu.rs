//! What QEMU's command line says of its guest, as libvirt writes it (`qemuBuildCommandLine`, `src/qemu/qemu_command.c`)
//! and QEMU reads it (qemu(1)). A tenant can run anything under this name: all text is taken, none is believed more
//! than the host's own facts, and the work is linear in its length, which the reader caps.

use std::collections::HashSet;

use overcommit_core::units::Bytes;
use serde::Deserialize;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// `-uuid`, in lower case.
    pub(crate) uuid: Option<String>,
    /// `-name`.
    pub(crate) name: Option<String>,
    /// Memory of the guest without what is plugged by virtio-mem, which libvirt's full size leaves out too.
    pub(crate) full: Option<Bytes>,
    /// A virtio balloon is there.
    pub(crate) has_balloon: bool,
}

/// A device or an object; libvirt writes the newer ones as JSON, the others as `driver,key=value,…`.
#[derive(Debug, Default, Deserialize)]
struct Part {
    #[serde(alias = "driver", alias = "qom-type", default)]
    kind: String,
    id: Option<String>,
    memdev: Option<String>,
    size: Option<u64>,
}

impl CommandLine {
    /// Understands the arguments; what is not understood is passed over.
    pub(crate) fn parse(arguments: &[String]) -> Self {
        let mut line = Self::default();
        let mut memory = Bytes::ZERO;
        let mut backends: Vec<(Option<String>, Bytes)> = Vec::new();
        let mut pluggable = HashSet::new();
        for (flag, value) in arguments.iter().zip(arguments.iter().skip(1)) {
            match flag.as_str() {
                "-uuid" => line.uuid = uuid(value),
                "-name" => line.name = option(value, "guest", true),
                "-m" => {
                    memory = option(value, "size", true).and_then(|s| size(&s, 1 << 20)).unwrap_or_default();
                }
                "-object" => {
                    let part = Part::parse(value);
                    if part.kind.starts_with("memory-backend-") {
                        backends.push((part.id, part.size.map(Bytes::new).unwrap_or_default()));
                    }
                }
                "-device" => {
                    let part = Part::parse(value);
                    line.has_balloon |= part.kind.starts_with("virtio-balloon");
                    pluggable.extend(part.memdev.filter(|_| part.kind.starts_with("virtio-mem")));
                }
                _ => {}
            }
        }
        let fixed = |id: &Option<String>| id.as_ref().is_none_or(|id| !pluggable.contains(id));
        let backed: Bytes = backends.iter().filter(|(id, _)| fixed(id)).map(|(_, size)| *size).sum();
        line.full = Some(memory.max(backed)).filter(|full| !full.is_zero());
        line
    }
}

impl Part {
    fn parse(text: &str) -> Self {
        if text.starts_with('{') {
            return serde_json::from_str(text).unwrap_or_default();
        }
        Self {
            kind: text.split(',').next().unwrap_or_default().to_owned(),
            id: option(text, "id", false),
            memdev: option(text, "memdev", false),
            size: option(text, "size", false).and_then(|s| size(&s, 1)).map(Bytes::get),
        }
    }
}

/// The value of `key` in `value,key=value,…`, where the first may be `implied` to be that of `key`. A comma within a
/// value is doubled (`qemu_opts_parse`, util/qemu-option.c).
fn option(text: &str, key: &str, mut implied: bool) -> Option<String> {
    let mut rest = Some(text);
    while let Some(here) = rest {
        let (item, after) = item(here);
        let named = item.split_once('=').filter(|(k, _)| *k == key).map(|(_, v)| v);
        if let Some(value) = named.or((implied && !item.contains('=')).then_some(item)) {
            return Some(value.replace(",,", ","));
        }
        (rest, implied) = (after, false);
    }
    None
}

/// The text up to the first comma that stands alone, and the text after it.
fn item(text: &str) -> (&str, Option<&str>) {
    let mut from = 0_usize;
    while let Some(at) = text.get(from..).and_then(|t| t.find(',')).map(|at| at.saturating_add(from)) {
        let next = at.saturating_add(1);
        if text.get(next..).is_some_and(|t| t.starts_with(',')) {
            from = next.saturating_add(1);
        } else {
            return (text.get(..at).unwrap_or_default(), text.get(next..));
        }
    }
    (text, None)
}

/// A whole number with a suffix; of `unit` bytes where it has none (`qemu_strtosz`, util/cutils.c).
fn size(text: &str, unit: u64) -> Option<Bytes> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(digits)?;
    let shift = match suffix {
        "" => return number.parse::<u64>().ok()?.checked_mul(unit).map(Bytes::new),
        "b" | "B" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift).map(Bytes::new)
}

/// A UUID in the form that libvirt writes, in lower case.
fn uuid(text: &str) -> Option<String> {
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let shape = |(at, b): (usize, u8)| if dash(at) { b == b'-' } else { b.is_ascii_hexdigit() };
    (text.len() == 36 && text.bytes().enumerate().all(shape)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> CommandLine {
        CommandLine::parse(&line.split(' ').map(String::from).collect::<Vec<_>>())
    }

    fn full(line: &str) -> Option<Bytes> {
        parse(line).full
    }

    #[test]
    fn lines_of_old_and_new_libvirt_are_understood() {
        let uuid = "5A9F9C3E-1111-2222-3333-444444444444";
        let old = format!(
            "qemu -name guest=default_tiny,debug-threads=on -m 384 -object memory-backend-ram,id=pc.ram,size=402653184 \
             -uuid {uuid} -device virtio-balloon-pci-non-transitional,id=balloon0,bus=pci.5"
        );
        let new = format!(
            "qemu -name guest=default_tiny,debug-threads=on -m size=393216k,slots=16,maxmem=1572864k -object \
             {{\"qom-type\":\"memory-backend-memfd\",\"id\":\"pc.ram\",\"share\":true,\"size\":402653184}} -uuid {uuid} \
             -device {{\"driver\":\"virtio-balloon-pci-non-transitional\",\"id\":\"balloon0\"}}"
        );
        let want = CommandLine {
            uuid: Some(uuid.to_ascii_lowercase()),
            name: Some("default_tiny".to_owned()),
            full: Some(Bytes::from_mib(384)),
            has_balloon: true,
        };
        assert_eq!((parse(&old), parse(&new)), (want.clone(), want));
    }

    #[test]
    fn memory_is_the_larger_of_what_is_asked_for_and_what_backs_it() {
        let mib = |n| Some(Bytes::from_mib(n));
        assert_eq!(full("-m 1G"), mib(1024));
        assert_eq!(full("-m size=2048k,maxmem=1T"), mib(2));
        let nodes = "-object memory-backend-ram,id=ram-node0,size=512M -object memory-backend-ram,id=ram-node1,size=512M";
        assert_eq!(full(&format!("-m 1024 {nodes}")), mib(1024));
        assert_eq!(
            full(&format!("-m 1024 {nodes} -object memory-backend-ram,id=memdimm0,size=1G")),
            mib(2048)
        );
        assert_eq!(full(nodes), mib(1024));
    }

    #[test]
    fn what_virtio_mem_plugs_is_left_out_in_both_forms() {
        let json = "-m size=512M -object {\"qom-type\":\"memory-backend-ram\",\"id\":\"m0\",\"size\":2147483648} \
                    -device {\"driver\":\"virtio-mem-pci\",\"memdev\":\"m0\"}";
        let text = "-m size=512M -object memory-backend-ram,id=m0,size=2G -device virtio-mem-pci,memdev=m0";
        assert_eq!((full(json), full(text)), (Some(Bytes::from_mib(512)), Some(Bytes::from_mib(512))));
    }

    #[test]
    fn names_keep_their_commas_and_may_stand_without_a_key() {
        assert_eq!(parse("-name guest=a,,b,debug-threads=on").name.as_deref(), Some("a,b"));
        assert_eq!(parse("-name plain,process=x").name.as_deref(), Some("plain"));
        assert_eq!(parse("-name process=x").name, None);
    }

    #[test]
    fn hostile_lines_say_nothing_and_break_nothing() {
        let deep = format!("-object {}", "{\"a\":".repeat(50_000));
        let commas = format!("-name {} -m {}", ",".repeat(100_001), ",,=".repeat(50_000));
        for line in [
            "",
            "-m",
            "-uuid",
            "-name",
            "-m -1",
            "-m 99999999999999999999",
            "-m 18446744073709551615T",
            "-m 1.5G",
            "-m 9x",
            "-uuid 5a9f9c3e",
            "-uuid ../../../../etc/passwd/aaaaaaaaaaaaaa",
            "-object {}",
            "-object",
            "-object {\"qom-type\":7}",
            "-object memory-backend-ram,size=é",
            "-device virtio-mem-pci",
            &deep,
            &commas,
        ] {
            let found = parse(line);
            assert_eq!((found.uuid, found.full), (None, None), "{}", line.get(..40).unwrap_or(line));
        }
        let many = "-object memory-backend-ram,id=a,size=9223372036854775807 ".repeat(4000);
        assert_eq!(full(&many), Some(Bytes::MAX), "sums saturate");
    }
}

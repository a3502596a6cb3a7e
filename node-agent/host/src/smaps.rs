//! What QEMU uses beside its guest's memory, from `/proc/PID/smaps`.
//!
//! Reading it walks the page tables of the whole process: milliseconds per GiB. Only for now and then.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use overcommit_core::units::Bytes;

use crate::held::ReadError;
use crate::proc::Proc;
use crate::text::kib_line;

/// Largest smaps accepted; a QEMU has about 500 mappings of 0.7 KiB of text each.
const CAP: u64 = 64 << 20;
/// What is read of a line. A path may be longer: `PATH_MAX` is 4096, and the kernel writes each line feed in it as four
/// characters (`mangle_path`, `fs/seq_file.c`).
const LINE_CAP: u64 = 8 << 10;
/// Mappings smaller than this are never taken for a part of guest memory.
const SMALLEST_PART: Bytes = Bytes::from_mib(8);

/// One mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mapping {
    size: Bytes,
    resident: Bytes,
    proportional: Bytes,
    kind: Kind,
}

/// What is mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// Private memory without a name, writable, not executable: guest memory, or QEMU's own.
    Nameless,
    /// A memfd, shared memory or hugetlbfs: guest memory of a guest with shared or huge backing.
    Backing,
    /// Any other private memory: heap, stack, generated code.
    #[default]
    Own,
    /// A mapped file, shared with every other process that maps it.
    Shared,
}

/// Resident memory of a QEMU that is not its guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    /// Private memory, as the process counts it: a page that it mapped twice counts twice.
    pub(crate) private: Bytes,
    /// Its part of the mapped files.
    pub(crate) files: Bytes,
}

impl Beside {
    /// Both together.
    pub(crate) fn all(self) -> Bytes {
        self.private.plus(self.files)
    }
}

/// Resident memory of a QEMU that is not its guest's: private memory whole, mapped files in proportion (`Pss`,
/// so that eight QEMUs of one image pay for its pages once). Absent if the guest's memory, `full` bytes, is not found;
/// memory of these `pluggable` sizes is the guest's, too.
pub(crate) fn beside_guest(
    process: &Proc,
    full: Bytes,
    pluggable: &[Bytes],
) -> Result<Option<Beside>, ReadError> {
    let path = process.dir().1.join("smaps");
    let reader = BufReader::with_capacity(64 << 10, File::from(process.file("smaps")?).take(CAP));
    let mappings = parse(reader).map_err(|e| ReadError::io(&path, e))?;
    Ok(beside(mappings, full, pluggable))
}

pub(crate) fn parse(mut reader: impl BufRead) -> std::io::Result<Vec<Mapping>> {
    let mut mappings: Vec<Mapping> = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LINE_CAP).read_until(b'\n', &mut line)? == 0 {
            return Ok(mappings);
        }
        if !line.ends_with(b"\n") {
            // Whoever names the file must not write lines of ours.
            reader.skip_until(b'\n')?;
        }
        let text = String::from_utf8_lossy(&line);
        if let Some((name, value)) = kib_line(&text) {
            let Some(mapping) = mappings.last_mut() else { continue };
            match name {
                "Size" => mapping.size = value,
                "Rss" => mapping.resident = value,
                "Pss" => mapping.proportional = value,
                _ => {}
            }
        } else if let Some(kind) = header(&text) {
            mappings.push(Mapping { kind, ..Mapping::default() });
        }
    }
}

/// `7f0000000000-7f0020000000 rw-p 00000000 00:00 0   [name]`; absent for all other lines.
fn header(line: &str) -> Option<Kind> {
    let mut words = line.split_ascii_whitespace();
    words.next()?.split_once('-')?;
    let access = words.next().filter(|a| a.len() == 4)?;
    let inode = words.nth(2)?;
    let name = words.next().unwrap_or("");
    let backing = ["/memfd:", "/dev/shm/", "/dev/hugepages", "/dev/zero"].iter().any(|b| name.starts_with(b))
        || name.contains("/libvirt/qemu/");
    Some(match name {
        _ if backing => Kind::Backing,
        "" if access == "rw-p" => Kind::Nameless,
        _ if inode == "0" => Kind::Own,
        _ => Kind::Shared,
    })
}

pub(crate) fn beside(mut mappings: Vec<Mapping>, full: Bytes, pluggable: &[Bytes]) -> Option<Beside> {
    let of = |kind| mappings.iter().filter(move |m: &&Mapping| m.kind == kind);
    let own: Bytes = of(Kind::Own).map(|m| m.resident).sum();
    let files: Bytes = of(Kind::Shared).map(|m| m.proportional).sum();
    let backing: Bytes = mappings.iter().filter(|m| m.kind == Kind::Backing).map(|m| m.size).sum();
    mappings.retain(|m| m.kind == Kind::Nameless);
    for size in pluggable {
        let largest = size.plus(size.scaled(1, 8));
        let fits = |m: &Mapping| m.size >= *size && m.size <= largest;
        if let Some(at) = mappings.iter().position(fits) {
            mappings.swap_remove(at);
        }
    }
    mappings.sort_unstable_by_key(|m| std::cmp::Reverse(m.size));
    let most = full.scaled(3, 4);
    let (mut covered, mut rest) = (backing, Bytes::ZERO);
    for mapping in &mappings {
        // A mapping of three quarters is guest memory (pluggable memory lies in one of its own); smaller ones are
        // parts of it, as with several NUMA nodes, only while something is missing.
        let part = covered < most && mapping.size >= SMALLEST_PART;
        if mapping.size >= most || part {
            covered = covered.plus(mapping.size);
        } else {
            rest = rest.plus(mapping.resident);
        }
    }
    (covered >= most).then(|| Beside { private: own.plus(rest), files })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(kind: Kind, size: u64, resident: u64) -> Mapping {
        let mib = Bytes::from_mib;
        Mapping { size: mib(size), resident: mib(resident), proportional: mib(resident / 2), kind }
    }

    fn beside(mappings: Vec<Mapping>, full: Bytes, pluggable: &[Bytes]) -> Option<Bytes> {
        super::beside(mappings, full, pluggable).map(Beside::all)
    }

    const FULL: Bytes = Bytes::from_mib(512);

    #[test]
    fn everything_but_the_guests_memory_is_counted() {
        let mappings = vec![
            mapping(Kind::Shared, 30, 20),
            mapping(Kind::Own, 60, 40),
            mapping(Kind::Nameless, 512, 300),
            mapping(Kind::Nameless, 64, 5),
        ];
        assert_eq!(beside(mappings, FULL, &[]), Some(Bytes::from_mib(10 + 40 + 5)));
    }

    #[test]
    fn memory_in_a_memfd_is_the_guests() {
        let mappings = vec![mapping(Kind::Backing, 512, 300), mapping(Kind::Nameless, 64, 5)];
        assert_eq!(beside(mappings, FULL, &[]), Some(Bytes::from_mib(5)));
    }

    #[test]
    fn memory_in_parts_and_pluggable_memory_are_the_guests() {
        let parts = vec![
            mapping(Kind::Nameless, 256, 200),
            mapping(Kind::Nameless, 256, 200),
            mapping(Kind::Nameless, 64, 5),
        ];
        assert_eq!(beside(parts, FULL, &[]), Some(Bytes::from_mib(5)));
        let pluggable = vec![
            mapping(Kind::Nameless, 2048, 100),
            mapping(Kind::Nameless, 512, 300),
            mapping(Kind::Nameless, 64, 5),
        ];
        assert_eq!(beside(pluggable, FULL, &[]), Some(Bytes::from_mib(5)));
        for size in [128, 256, 520] {
            let known = vec![
                mapping(Kind::Nameless, size, 100),
                mapping(Kind::Nameless, 512, 300),
                mapping(Kind::Nameless, 64, 5),
            ];
            let pluggable = [Bytes::from_mib(size)];
            assert_eq!(beside(known, FULL, &pluggable), Some(Bytes::from_mib(5)), "{size}");
        }
    }

    #[test]
    fn without_the_guests_memory_nothing_is_known() {
        assert_eq!(beside(vec![mapping(Kind::Nameless, 64, 5)], FULL, &[]), None);
        assert_eq!(beside(Vec::new(), FULL, &[]), None);
    }

    #[test]
    fn mappings_are_told_apart() {
        let text = "55d0-55d1 r-xp 00000000 08:01 123    /usr/bin/qemu\nSize: 8 kB\nRss: 4 kB\nPss: 2 kB\n\
            VmFlags: rd ex\n7f00-7f01 rw-p 00000000 00:00 0 \nSize: 512 kB\nRss: 100 kB\nPss: 100 kB\n\
            7f02-7f03 rwxp 00000000 00:00 0 \nRss: 7 kB\n7f04-7f05 rw-s 00000000 00:01 9   /memfd:ram (deleted)\n\
            55e0-55e1 rw-p 00000000 00:00 0   [heap]\n";
        let kinds: Vec<Kind> = parse(text.as_bytes()).unwrap().iter().map(|m| m.kind).collect();
        assert_eq!(kinds, [Kind::Shared, Kind::Nameless, Kind::Own, Kind::Backing, Kind::Own]);
        let first = parse(text.as_bytes()).unwrap().remove(0);
        assert_eq!((first.size, first.proportional), (Bytes::from_kib(8), Bytes::from_kib(2)));
    }

    #[test]
    fn a_name_longer_than_any_line_cannot_pass_for_a_mapping() {
        let header = "7f00-7f01 r--p 00000000 08:01 123    /";
        let padding = "a".repeat(usize::try_from(LINE_CAP).unwrap() - header.len());
        let text = format!("{header}{padding}0-1 rwxp 0 0 0 [heap]\nSize: 8 kB\nRss: 4 kB\nPss: 2 kB\n");
        let kinds: Vec<Kind> = parse(text.as_bytes()).unwrap().iter().map(|m| m.kind).collect();
        assert_eq!(kinds, [Kind::Shared]);
    }

    #[test]
    fn this_very_process_can_be_read() {
        let process = Proc::open(&crate::Root::default(), std::process::id()).unwrap();
        let full = Bytes::from_mib(64);
        let memory = vec![1_u8; 64 << 20];
        let own = beside_guest(&process, full, &[]).unwrap();
        assert_eq!(memory.iter().map(|b| u64::from(*b)).sum::<u64>(), 64 << 20);
        let own = own.expect("the large mapping is found").all();
        assert!(own > Bytes::ZERO && own < Bytes::from_mib(60), "{own}");
    }
}

use super::*;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A part that no other process knows, and that is removed with this value.
struct Throwaway(&'static Part);

impl Throwaway {
    fn new(part: &'static Part) -> Self {
        Self(part)
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        if let Ok(folder) = self.0.folder() {
            let _ = std::fs::remove_dir_all(&folder);
            for left in [format!(".{}.lock", self.0.name), format!("{}.log", self.0.name)] {
                let _ = std::fs::remove_file(folder.with_file_name(left));
            }
        }
    }
}

fn own_inputs() -> Result<Vec<Vec<u8>>> {
    // A link to the own process id.
    Ok(vec![std::fs::read_link("/proc/self")?.into_os_string().into_encoded_bytes()])
}

#[test]
fn a_part_that_two_want_at_a_time_is_built_once() {
    static BUILDS: AtomicU32 = AtomicU32::new(0);
    static PART: Part = Part {
        name: "self-test-once",
        cost: Duration::from_secs(1),
        needs: &[],
        inputs: own_inputs,
        build: |shop| {
            BUILDS.fetch_add(1, Ordering::SeqCst);
            Ok(std::fs::write(shop.out.join("made"), "whole")?)
        },
    };
    let part = Throwaway::new(&PART);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(std::fs::read(part.0.file("made").unwrap()).unwrap(), b"whole"));
        }
    });
    assert_eq!(BUILDS.load(Ordering::SeqCst), 1);
}

#[test]
fn a_part_of_former_inputs_is_forgotten_unless_it_is_young_or_held() {
    static PART: Part = Part {
        name: "self-test-former",
        cost: Duration::from_secs(1),
        needs: &[],
        inputs: own_inputs,
        build: |shop| Ok(std::fs::write(shop.out.join("made"), "")?),
    };
    let part = Throwaway::new(&PART);
    let beside = |hash: &str| part.0.folder().unwrap().with_file_name(format!("{}-{hash}", part.0.name));
    let [old, young, held] = ["0123456789abcdef", "123456789abcdef0", "23456789abcdef01"].map(beside);
    // Of a part whose name only begins alike.
    let other = beside("more-0123456789abcdef");
    for folder in [&old, &young, &held, &other] {
        std::fs::create_dir_all(folder).unwrap();
        if folder != &young {
            let long_ago = std::time::SystemTime::now() - Duration::from_hours(2);
            std::fs::File::open(folder).unwrap().set_modified(long_ago).unwrap();
        }
    }
    let user = std::fs::File::open(&held).unwrap();
    user.lock_shared().unwrap();
    part.0.ensure().unwrap();
    let there = [&old, &young, &held, &other].map(|folder| folder.exists());
    for folder in [&young, &held, &other] {
        std::fs::remove_dir_all(folder).unwrap();
    }
    assert_eq!(there, [false, true, true, true]);
}

#[test]
fn a_failed_build_shows_the_command_and_its_last_lines_and_leaves_no_part() {
    static PART: Part = Part {
        name: "self-test-failure",
        cost: Duration::from_secs(1),
        needs: &[],
        inputs: own_inputs,
        build: |shop| {
            std::fs::write(shop.out.join("half"), "")?;
            command::run(Command::new("sh").args(["-c", "echo broken pipe dream; exit 3"]), &shop.log)
        },
    };
    let part = Throwaway::new(&PART);
    let message = format!("{:#}", part.0.ensure().unwrap_err());
    for word in ["self-test-failure", "exit 3", "status: 3", "broken pipe dream"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(!part.0.folder().unwrap().exists());
}

#[test]
fn a_changed_input_is_another_part() {
    let part =
        |inputs| Part { name: "self-test-hash", cost: Duration::ZERO, needs: &[], inputs, build: |_| Ok(()) };
    let one = part(|| Ok(vec![b"ab".to_vec(), b"c".to_vec()])).compute_hash().unwrap();
    let other = part(|| Ok(vec![b"a".to_vec(), b"bc".to_vec()])).compute_hash().unwrap();
    assert_ne!(one, other);
}

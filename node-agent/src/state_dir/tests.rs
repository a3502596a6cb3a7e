//! What is kept there, and who may touch it.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use super::*;

#[test]
fn a_link_that_somebody_left_empties_no_file() {
    let (temp, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = other.path().join("passwd");
    fs::write(&target, "root").unwrap();
    let link = temp.path().join(".writable.new");
    symlink(&target, &link).unwrap();
    let dir = StateDir::open(temp.path()).unwrap();
    assert!(!link.exists(), "it is no reason to refuse");
    symlink(&target, &link).unwrap();
    assert!(dir.replace(TRIED, b"ours").is_err());
    assert_eq!(fs::read_to_string(&target).unwrap(), "root");
}

#[test]
fn what_no_agent_wrote_is_not_read_whatever_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(temp.path()).unwrap();
    let file = temp.path().join(learned::FILE);
    let refused = || {
        let why = dir.read(learned::FILE).unwrap_err().to_string();
        let gone = if file.is_dir() { fs::remove_dir(&file) } else { fs::remove_file(&file) };
        gone.map(|()| why).unwrap()
    };
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(refused().contains("no regular file"));
    symlink("/dev/zero", &file).unwrap();
    assert!(refused().contains("symbolic link"));
    fs::create_dir(&file).unwrap();
    assert!(refused().contains("no regular file"));
    File::create(&file).unwrap().set_len(2 << 30).unwrap();
    assert!(refused().contains("2147483648 bytes"));
    let most = vec![b' '; usize::try_from(MAX_BYTES).unwrap()];
    dir.replace(learned::FILE, &most).unwrap();
    assert_eq!(dir.read(learned::FILE).unwrap().unwrap().len(), most.len());
    let more = [&most[..], b" "].concat();
    assert!(dir.replace(learned::FILE, &more).is_err(), "it would not be read again");
}

#[test]
fn of_files_that_cannot_be_understood_the_oldest_and_the_newest_are_kept() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(temp.path()).unwrap();
    let content = |name: &str| fs::read_to_string(temp.path().join(name)).unwrap();
    let (oldest, newest) = ("journal.corrupt", "journal.newest.corrupt");
    for (odd, told) in [("first", oldest), ("second", newest), ("third", newest)] {
        fs::write(temp.path().join(journal::FILE), odd).unwrap();
        assert!(dir.set_aside(journal::FILE).contains(told));
        assert_eq!((content(oldest).as_str(), content(told).as_str()), ("first", odd));
    }
    for (odd, again) in [("fourth", false), ("fifth", true)] {
        fs::write(temp.path().join(journal::FILE), odd).unwrap();
        dir.set_aside_when_replaced(journal::FILE);
        assert_eq!(content(journal::FILE), odd, "it stands until it is replaced");
        if again {
            // As one that died before it had replaced it.
            dir.spare_odd(journal::FILE).unwrap();
            dir.set_aside_when_replaced(journal::FILE);
        }
        for new in ["new", "newer"] {
            dir.replace(journal::FILE, new.as_bytes()).unwrap();
            assert_eq!([oldest, newest, journal::FILE].map(content), ["first", odd, new]);
        }
    }
    // A folder has no second name.
    fs::remove_file(temp.path().join(journal::FILE)).unwrap();
    fs::remove_file(temp.path().join(newest)).unwrap();
    fs::create_dir(temp.path().join(journal::FILE)).unwrap();
    dir.set_aside_when_replaced(journal::FILE);
    dir.replace(journal::FILE, b"new").unwrap();
    assert!(temp.path().join(newest).is_dir() && content(journal::FILE) == "new");
}

#[test]
fn a_directory_in_which_others_can_write_is_refused_with_the_remedy() {
    let temp = tempfile::tempdir().unwrap();
    let refused = || check(temp.path()).err().map(|error| error.to_string()).unwrap_or_default();
    let mode = |mode| fs::set_permissions(temp.path(), fs::Permissions::from_mode(mode)).unwrap();
    for open in [0o777, 0o770, 0o1777] {
        mode(open);
        assert!(refused().contains("chmod go-w"), "{}", refused());
    }
    mode(0o755);
    fs::write(temp.path().join("somebody's"), "").unwrap();
    assert_eq!(refused(), "");
    assert_eq!(fs::metadata(temp.path()).unwrap().mode() & 0o777, 0o755, "it is not the agent's alone");
    fs::remove_file(temp.path().join("somebody's")).unwrap();
    for keeps in [&[][..], &[journal::FILE, "journal.newest.corrupt", ".journal.new", "agent.sock"]] {
        for name in keeps {
            fs::write(temp.path().join(name), "").unwrap();
        }
        mode(0o755);
        assert_eq!(refused(), "");
        assert_eq!(
            fs::metadata(temp.path()).unwrap().mode() & 0o777,
            0o700,
            "nobody else may lock it: {keeps:?}"
        );
    }
    mode(0o755);
    chown(temp.path(), Some(65_534), None).unwrap();
    assert!(refused().contains("belongs to user 65534") && refused().contains("chown"), "{}", refused());
    assert!(check(&temp.path().join("new")).is_ok(), "one that is to be made");
}

#[test]
fn nothing_is_written_into_a_folder_that_came_in_the_place_of_the_one_that_is_locked() {
    let temp = tempfile::tempdir().unwrap();
    let (place, moved) = (temp.path().join("state"), temp.path().join("moved"));
    let dir = StateDir::open(&place).unwrap();
    fs::rename(&place, &moved).unwrap();
    assert!(dir.replace(TRIED, b"ours").is_err());
    let other = StateDir::open(&place).unwrap();
    fs::write(place.join(".journal.new"), "being written").unwrap();
    let why = dir.replace(journal::FILE, b"ours").unwrap_err();
    assert_eq!(refusal(&why).0, "the folder is gone");
    assert_eq!(fs::read_to_string(place.join(".journal.new")).unwrap(), "being written");
    assert!(!other.has(journal::FILE));
}

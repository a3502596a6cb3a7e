//! The want of file descriptors: what is told of it is no news of the file that could not be opened.

use std::io;

use rustix::io::Errno;

/// What to do where the process, or the whole machine, may open no further file; absent if an error says something else.
pub fn more_files(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => {
            Some("raise the limit of files that the agent may open (LimitNOFILE= of its unit, or ulimit -n)")
        }
        Some(Errno::NFILE) => {
            Some("the whole machine may open no more files: close some, or raise fs.file-max")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_errors_only_the_want_of_files_asks_for_a_higher_limit() {
        let of = |errno: Errno| more_files(&errno.into());
        assert!(of(Errno::MFILE).is_some_and(|told| told.contains("ulimit -n")));
        assert!(of(Errno::NFILE).is_some_and(|told| told.contains("fs.file-max")));
        for other in [Errno::ACCESS, Errno::PERM, Errno::NOENT, Errno::NOMEM, Errno::SRCH] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(more_files(&io::ErrorKind::PermissionDenied.into()), None);
    }
}

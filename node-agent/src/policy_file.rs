//! The policy file of a host without Kubernetes: read once, when people start the agent. A loop that is started anew goes on
//! with what was read then (`keeper`), so that an edit, also a bad or unfinished one, is seen by whoever starts the agent
//! and not at the next crash.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use overcommit_core::policy::Mode;
use overcommit_crds::file;
use overcommit_crds::policy::OvercommitPolicySpec;
use rustix::fs::{MemfdFlags, OFlags, PROC_SUPER_MAGIC, fstatfs, memfd_create};

use crate::args::Run;
use crate::orders::Orders;
use crate::run::Failure;

/// What the loop is to follow; absent in a cluster.
///
/// # Errors
/// When the file is of no use. Never of a loop that only gives back or hands over: that is owed whatever a policy says.
pub(crate) fn orders(args: &Run) -> Result<Option<Orders>, Failure> {
    let Some(path) = args.policy.as_deref() else { return Ok(None) };
    let read = match args.policy_kept {
        // In the keeper's memory, and opened anew: an inherited descriptor has one position for all loops.
        Some(kept) => {
            fs::read(format!("/proc/self/fd/{kept}")).context("what the keeper keeps of the policy")
        }
        None => read(path),
    };
    let orders = read.and_then(|content| understand(path, &content));
    let orders = orders.or_else(|error| match args.only {
        Some(only) => {
            tracing::error!(?only, "{error:#}; it is done without a policy");
            without_policy()
        }
        None => Err(error),
    });
    orders.map(Some).map_err(Failure::bad_input)
}

/// Reads the file into memory that a child can open by its number.
///
/// # Errors
/// When it is no file that can be read.
pub(crate) fn keep(path: &Path) -> anyhow::Result<OwnedFd> {
    let content = read(path)?;
    // Inherited, and never on a disk: one that is full would keep what an earlier start has read.
    let kept = memfd_create("policy", MemfdFlags::empty()).context("no memory to keep the policy in")?;
    let mut kept = File::from(kept);
    kept.write_all(&content).context("no memory to keep the policy in")?;
    Ok(kept.into())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    anyhow::ensure!(
        path != Path::new("-"),
        "--policy - is not read from standard input: write the policy to a file and name that (./- for a file of this name)"
    );
    let about = fs::metadata(path).with_context(|| format!("policy file {shown} cannot be read"))?;
    // A pipe would be waited for without end.
    anyhow::ensure!(
        about.is_file(),
        "policy file {shown} is no regular file: write the policy to one and name that with --policy"
    );
    // What the kernel makes up may be waited for too, and passes for a regular file: `/proc/kmsg`.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let file = opened.with_context(|| format!("policy file {shown} cannot be read"))?;
    anyhow::ensure!(
        fstatfs(&file).is_ok_and(|about| about.f_type != PROC_SUPER_MAGIC)
            && file.metadata().is_ok_and(|about| about.is_file()),
        "policy file {shown} is no file on a disk: write the policy to one and name that with --policy"
    );
    let mut content = Vec::new();
    let limit = u64::try_from(file::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let taken = file.take(limit).read_to_end(&mut content);
    taken.with_context(|| format!("policy file {shown} cannot be read"))?;
    Ok(content)
}

fn understand(path: &Path, content: &[u8]) -> anyhow::Result<Orders> {
    let shown = path.display();
    let policy = file::read(content).map_err(|e| anyhow!("policy file {shown}: {e}"))?;
    for idle in file::idle(&policy.spec) {
        tracing::warn!("policy file {shown}: {idle}");
    }
    let name = policy.metadata.name.as_deref().unwrap_or("unnamed");
    Orders::from_file(name, &policy.spec).map_err(|errors| anyhow!("policy file {shown}: {errors:?}"))
}

/// Enough to hand over or to give back by the journal.
fn without_policy() -> anyhow::Result<Orders> {
    let mut orders = Orders::from_file("none", &OvercommitPolicySpec::default())
        .map_err(|errors| anyhow!("the defaults cannot work: {errors:?}"))?;
    // Observing would give everything back by itself.
    orders.policy.mode = Mode::Enforce;
    Ok(orders)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn run(path: &Path, further: &[&str]) -> Run {
        let path = path.to_str().unwrap();
        let words = ["agent", "run", "--connect", "test:///default", "--policy", path];
        match Args::parse_from(words.iter().chain(further)).command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_only_gives_back_or_hands_over_needs_no_policy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.yaml");
        for content in [None, Some("half: [")] {
            if let Some(content) = content {
                fs::write(&file, content).unwrap();
            }
            assert!(orders(&run(&file, &[])).is_err());
            for only in ["--only=release", "--only=hand-over"] {
                let orders = orders(&run(&file, &[only])).unwrap().unwrap();
                assert!(orders.is_standalone() && orders.policy.mode == Mode::Enforce, "{only}");
            }
        }
    }

    #[test]
    fn what_the_kernel_makes_up_is_no_policy_and_is_not_waited_for() {
        use std::os::fd::AsRawFd as _;

        for path in ["/proc/kmsg", "/proc/self/status", "/proc/self"] {
            let refused = keep(Path::new(path)).unwrap_err().to_string();
            assert!(refused.contains("write the policy to one"), "{path}: {refused}");
        }
        // A file of a disk, by a way through there.
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(keep(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd()))).is_ok());
    }

    #[test]
    fn a_loop_follows_what_was_kept_whatever_became_of_the_file() {
        use std::os::fd::AsRawFd as _;

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.yaml");
        let policy = "apiVersion: overcommit.dev/v1alpha1\nkind: OvercommitPolicy\nmetadata: {name: first}\nspec: {}\n";
        fs::write(&file, policy).unwrap();
        let kept = keep(&file).unwrap();
        let again = format!("--policy-kept={}", kept.as_raw_fd());
        for content in [Some(policy.replace("first", "second")), Some("half: [".to_owned()), None] {
            match content {
                Some(content) => fs::write(&file, content).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let orders = orders(&run(&file, &[&again])).unwrap().unwrap();
            assert_eq!(orders.policy_name, "first");
        }
    }
}

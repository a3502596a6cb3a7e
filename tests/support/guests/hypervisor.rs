//! A libvirtd of our own beside whatever the machine runs: its configuration, state and sockets are in the session's folder.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::fs::{Advice, fadvise};
use rustix::process::Signal;

use super::guest::Guest;
use super::spec::GuestSpec;
use super::virsh::Virsh;
use crate::guest_image::GuestImage;
use crate::hugepages::HugePages;
use crate::machine;
use crate::process::{Launch, Process};
use crate::session::Session;
use crate::wait::until;

/// How long libvirtd may take to answer; probing QEMU takes a few seconds of it.
const STARTING: Duration = Duration::from_mins(3);

/// How long another user of the machine's huge pages is waited for.
const POOL: Duration = Duration::from_mins(10);

/// Where libvirtd, built for the whole machine, keeps its things; each is ours in the daemon's own mount namespace.
const FOLDERS: [(&str, &str); 5] = [
    ("etc", "/etc/libvirt"),
    ("lib", "/var/lib/libvirt"),
    ("cache", "/var/cache/libvirt"),
    ("log", "/var/log/libvirt"),
    ("run", "/run"),
];

/// Guests run as root without confinement, and libvirt leaves cgroups alone, as in a KubeVirt launcher.
const QEMU_CONF: &str = r#"user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"#;

const LIBVIRTD_CONF: &str = r#"auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
"#;

/// Mounts `$1/…` over libvirt's folders and becomes the rest of the arguments. `/dev/kvm` is hidden by a file that cannot be written:
/// where libvirt sees a usable one (even `/dev/null` in its place) that QEMU cannot use, it probes QEMU anew, for 20 to 40 s, at each
/// start of a domain.
const MOUNT_AND_EXEC: &str = r#"set -e; dir=$1; shift
for pair in "$@"; do
  [ "$pair" = -- ] && break
  mkdir -p "${pair#*:}"; mount --bind "$dir/${pair%%:*}" "${pair#*:}"; shift
done; shift
if [ -e /dev/kvm ]; then
  : > "$dir/no-kvm"; mount --bind "$dir/no-kvm" /dev/kvm; mount -o remount,bind,ro /dev/kvm
fi
mkdir -p /dev/hugepages; mountpoint -q /dev/hugepages || mount -t hugetlbfs hugetlbfs /dev/hugepages
exec "$@""#;

/// A private libvirtd. Dropping it kills it and all its guests.
#[derive(Debug)]
pub struct Hypervisor {
    session: &'static Session,
    dir: PathBuf,
    virsh: Virsh,
    daemon: Mutex<Daemon>,
}

/// The daemon's processes; earlier ones are kept, for the guests that they started live in their cgroups.
#[derive(Debug)]
struct Daemon {
    current: Process,
    earlier: Vec<Process>,
}

impl Hypervisor {
    /// The one that all tests of this process share.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Hypervisor, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::start().map_err(|e| format!("{e:#}")));
        shared.as_ref().map_err(|e| anyhow!("the hypervisor did not start: {e}"))
    }

    /// Starts one of its own, for a test that stops or kills it.
    pub fn start() -> Result<Self> {
        machine::require("libvirtd", "libvirt-daemon-system")?;
        machine::require("virsh", "libvirt-clients")?;
        machine::require("qemu-system-x86_64", "qemu-system-x86")?;
        let session = Session::shared()?;
        let dir = session.fresh_dir("virt")?;
        for folder in ["etc", "lib", "cache", "log", "run", "run/libvirt", "guests"] {
            fs::create_dir(dir.join(folder))
                .with_context(|| format!("creating {folder} in {}", dir.display()))?;
        }
        // Guests that are not root, and clients, must pass.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        fs::write(dir.join("etc/qemu.conf"), QEMU_CONF)?;
        fs::write(dir.join("etc/libvirtd.conf"), LIBVIRTD_CONF)?;
        let virsh = Virsh {
            uri: format!("qemu+unix:///system?socket={}", dir.join("run/libvirt/libvirt-sock").display()),
        };
        let current = launch(session, &dir, &virsh)?;
        Ok(Self { session, dir, virsh, daemon: Mutex::new(Daemon { current, earlier: Vec::new() }) })
    }

    /// What a client connects to.
    pub fn uri(&self) -> &str {
        &self.virsh.uri
    }

    /// Process id of libvirtd.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon(|d| d.current.pid())
    }

    /// Stops libvirtd (SIGSTOP): calls to it hang, its guests run on.
    pub fn freeze_daemon(&self) -> Result<()> {
        self.daemon(|d| d.current.signal(Signal::STOP))
    }

    /// Lets a stopped libvirtd go on.
    pub fn thaw_daemon(&self) -> Result<()> {
        self.daemon(|d| d.current.signal(Signal::CONT))
    }

    /// Kills libvirtd alone; its guests run on.
    pub fn kill_daemon(&self) -> Result<()> {
        self.daemon(|d| {
            d.current.signal(Signal::KILL)?;
            d.current.wait(STARTING).map(drop)
        })
    }

    /// Starts libvirtd anew after [`Hypervisor::kill_daemon`]; it finds its guests again.
    pub fn restart_daemon(&self) -> Result<()> {
        let next = launch(self.session, &self.dir, &self.virsh)?;
        self.daemon(|d| {
            let earlier = std::mem::replace(&mut d.current, next);
            d.earlier.push(earlier);
        });
        Ok(())
    }

    /// Defines a guest and starts it. It is gone when the returned value is dropped.
    pub fn define_and_start(&self, spec: &GuestSpec) -> Result<Guest> {
        let image = GuestImage::ensure()?;
        let dir = self.dir.join("guests").join(&spec.name);
        fs::create_dir(&dir).with_context(|| format!("is there a guest {} already?", spec.name))?;
        let hugepages = self.reserve_hugepages(spec.hugepages_mib())?;
        if let Some(mib) = spec.swap_disk_mib() {
            fs::File::create(dir.join("swap"))?.set_len(mib * machine::MIB)?;
        }
        if let Some(mib) = spec.data_disk_mib() {
            noise(&dir.join("data"), mib).context("the guest's disk of files")?;
        }
        let xml = dir.join("domain.xml");
        fs::write(&xml, spec.xml(&image, &dir))?;
        self.virsh.call(&["define", xml.to_str().context("file name")?])?;
        let guest = Guest::new(
            spec.name.clone(),
            dir,
            self.virsh.clone(),
            self.dir.join("run/libvirt/qemu"),
            hugepages,
        );
        self.virsh.call(&["start", &spec.name]).with_context(|| self.log_tail())?;
        Ok(guest)
    }

    /// Where libvirtd's log is, and its last lines.
    pub fn log_tail(&self) -> String {
        self.daemon(|d| d.current.log_tail())
    }

    fn reserve_hugepages(&self, mib: u64) -> Result<Option<HugePages>> {
        if mib == 0 {
            return Ok(None);
        }
        let pool = HugePages::take_over(self.session, POOL)?;
        pool.grow(mib * machine::MIB, || Ok(()))?;
        Ok(Some(pool))
    }

    fn daemon<T>(&self, with: impl FnOnce(&mut Daemon) -> T) -> T {
        with(&mut self.daemon.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Fills a file with what nothing can compress or merge, and leaves it to the disk alone: the guest goes past the host's page cache,
/// and what stayed there would be one more thing to be squeezed.
fn noise(path: &Path, mib: u64) -> Result<()> {
    let mut file = fs::File::create(path)?;
    let mut random = fastrand::Rng::new();
    let mut piece = vec![0; 1 << 20];
    for _ in 0..mib {
        random.fill(&mut piece);
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(())
}

fn launch(session: &Session, dir: &Path, virsh: &Virsh) -> Result<Process> {
    let pairs = FOLDERS.map(|(ours, theirs)| format!("{ours}:{theirs}"));
    let launch =
        Launch::new("libvirtd", "sh").own_mounts().args(["-c", MOUNT_AND_EXEC, "mount"]).arg(dir).args(pairs);
    let daemon = session.spawn(launch.args(["--", "libvirtd"]))?;
    // Asked as a client would ask; the deadline of the call itself is shorter than ours.
    daemon.ready(STARTING, "the first answer", || virsh.call(&["version"]).map(drop))?;
    let pid_file = dir.join("run/libvirtd.pid");
    until(STARTING, "libvirtd's process id", || pid_file.is_file())?;
    Ok(daemon)
}

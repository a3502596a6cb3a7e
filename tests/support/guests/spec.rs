//! What a guest is to be, and the domain XML of it.

use std::fmt::Write;
use std::path::Path;

use crate::guest_image::GuestImage;
use crate::load::Load;

/// KubeVirt's default period of balloon statistics, in seconds (`memBalloonStatsPeriod`).
const KUBEVIRT_STATS_PERIOD: u32 = 10;

/// Name of the command port inside the guest.
const PORT: &str = "org.overcommit.load.0";

/// The guest's balloon device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balloon {
    /// No device.
    Absent,
    /// A device that the guest has no driver for.
    WithoutDriver,
    /// A device that works.
    Present {
        /// Whether the guest reports its free pages, so that the host can take them back.
        free_page_reporting: bool,
        /// Seconds between statistics; 0 for none.
        stats_period_s: u32,
    },
}

/// A guest to be started.
#[derive(Debug, Clone)]
pub struct GuestSpec {
    pub(super) name: String,
    memory_mib: u64,
    load: Load,
    balloon: Balloon,
    swap_mib: Option<u64>,
    data_mib: Option<u64>,
    hugepages: bool,
    shared: bool,
    pluggable_mib: u64,
    deflates: bool,
    vcpus: u32,
    extra_args: String,
}

impl GuestSpec {
    /// A guest as KubeVirt makes them: one processor, balloon with free page reporting, statistics each 10 s; it idles.
    pub fn new(name: impl Into<String>, memory_mib: u64) -> Self {
        Self {
            name: name.into(),
            memory_mib,
            load: Load::IDLE,
            balloon: Balloon::Present { free_page_reporting: true, stats_period_s: KUBEVIRT_STATS_PERIOD },
            swap_mib: None,
            data_mib: None,
            hugepages: false,
            shared: false,
            pluggable_mib: 0,
            deflates: false,
            vcpus: 1,
            extra_args: String::new(),
        }
    }

    /// What it does from its start.
    #[must_use]
    pub fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    /// Its balloon device.
    #[must_use]
    pub fn balloon(mut self, balloon: Balloon) -> Self {
        self.balloon = balloon;
        self
    }

    /// Working balloon with statistics each so many seconds.
    #[must_use]
    pub fn stats_period_s(self, seconds: u32) -> Self {
        self.balloon(Balloon::Present { free_page_reporting: true, stats_period_s: seconds })
    }

    /// Its balloon gives memory back by itself rather than let the guest's kernel kill (`autodeflate`).
    #[must_use]
    pub fn deflates_on_oom(mut self) -> Self {
        self.deflates = true;
        self
    }

    /// A disk of this size that the guest swaps to.
    #[must_use]
    pub fn swap_mib(mut self, mib: u64) -> Self {
        self.swap_mib = Some(mib);
        self
    }

    /// A disk of this size, full of what nothing can compress, that the guest finds by its serial `data`.
    #[must_use]
    pub fn data_mib(mut self, mib: u64) -> Self {
        self.data_mib = Some(mib);
        self
    }

    /// Backs its memory with huge pages of the host, reserved for it at its start: one such guest at a time, and no squeeze beside it.
    #[must_use]
    pub fn hugepages(mut self) -> Self {
        self.hugepages = true;
        self
    }

    /// Backs its memory with a memfd that others may map, as KubeVirt does for virtiofs.
    #[must_use]
    pub fn shared_memory(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Gives it a virtio-mem device of this size, of which nothing is plugged.
    #[must_use]
    pub fn pluggable_mib(mut self, mib: u64) -> Self {
        self.pluggable_mib = mib;
        self
    }

    /// Has it reboot itself so long after each start of its kernel.
    #[must_use]
    pub fn reboot_after_s(mut self, seconds: u64) -> Self {
        let _ = write!(self.extra_args, " reboot_after={seconds}");
        self
    }

    /// What it needs of the host's huge pages.
    pub(super) fn hugepages_mib(&self) -> u64 {
        if self.hugepages { self.memory_mib } else { 0 }
    }

    /// Size of its swap disk.
    pub(super) fn swap_disk_mib(&self) -> Option<u64> {
        self.swap_mib
    }

    /// Size of its disk of files.
    pub(super) fn data_disk_mib(&self) -> Option<u64> {
        self.data_mib
    }

    fn kernel_args(&self) -> String {
        let swap = if self.swap_mib.is_some() { " swap=1" } else { "" };
        let driver = if self.balloon == Balloon::WithoutDriver { " noballoon=1" } else { "" };
        let Self { name, load, extra_args, .. } = self;
        format!("{} seed={name} load={load}{swap}{driver}{extra_args}", GuestImage::KERNEL_ARGS)
    }

    fn balloon_xml(&self) -> String {
        let (reporting, period) = match self.balloon {
            Balloon::Absent => return "<memballoon model='none'/>".to_owned(),
            Balloon::WithoutDriver => (true, KUBEVIRT_STATS_PERIOD),
            Balloon::Present { free_page_reporting, stats_period_s } => (free_page_reporting, stats_period_s),
        };
        let [reporting, deflates] = [reporting, self.deflates].map(|on| if on { "on" } else { "off" });
        let stats = if period > 0 { format!("<stats period='{period}'/>") } else { String::new() };
        format!(
            "<memballoon model='virtio-non-transitional' autodeflate='{deflates}' \
             freePageReporting='{reporting}'>{stats}</memballoon>"
        )
    }

    /// What makes memory pluggable: what stands in the domain, and the device.
    fn pluggable_xml(&self) -> (String, String) {
        let Self { memory_mib, pluggable_mib, vcpus, .. } = self;
        if *pluggable_mib == 0 {
            return (String::new(), String::new());
        }
        let all = memory_mib + pluggable_mib;
        let last = vcpus - 1;
        let domain = format!(
            "<maxMemory slots='1' unit='MiB'>{all}</maxMemory>
  <cpu><numa><cell id='0' cpus='0-{last}' memory='{memory_mib}' unit='MiB'/></numa></cpu>"
        );
        let device = format!(
            "<memory model='virtio-mem'><target><size unit='MiB'>{pluggable_mib}</size><node>0</node>\
             <block unit='MiB'>2</block><requested unit='MiB'>0</requested></target></memory>"
        );
        (domain, device)
    }

    /// The domain XML, with the guest's files (console, command port, disks) in `dir`.
    pub(super) fn xml(&self, image: &GuestImage, dir: &Path) -> String {
        let Self { name, memory_mib, vcpus, .. } = self;
        let (kernel, initrd, dir) = (image.vmlinuz.display(), image.initrd.display(), dir.display());
        let (args, balloon) = (self.kernel_args(), self.balloon_xml());
        let (pluggable, plug) = self.pluggable_xml();
        let all_mib = memory_mib + self.pluggable_mib;
        let backing = match (self.hugepages, self.shared) {
            (true, _) => "<memoryBacking><hugepages/></memoryBacking>",
            (false, true) => "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>",
            (false, false) => "",
        };
        let disk = |name: &str, letter: char| {
            format!(
                "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' discard='unmap'/>\
                 <source file='{dir}/{name}'/><target dev='vd{letter}' bus='virtio'/><serial>{name}</serial></disk>"
            )
        };
        let swap = self.swap_mib.map_or(String::new(), |_| disk("swap", 'a'));
        let data = self.data_mib.map_or(String::new(), |_| disk("data", 'b'));
        format!(
            "<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{all_mib}</memory>
  {pluggable}
  {backing}
  <vcpu>{vcpus}</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>{args}</cmdline></os>
  <features><acpi/><tcg><tb-cache unit='MiB'>32</tb-cache></tcg></features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    {balloon}
    {plug}
    {swap}
    {data}
    <controller type='virtio-serial' index='0' model='virtio-non-transitional'/>
    <controller type='usb' model='none'/>
    <channel type='unix'><source mode='bind' path='{dir}/port'/><target type='virtio' name='{PORT}'/></channel>
    <serial type='file'><source path='{dir}/console' append='on'/></serial>
    <console type='file'><source path='{dir}/console' append='on'/><target type='serial'/></console>
  </devices>
</domain>
"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(spec: &GuestSpec) -> String {
        let image = GuestImage { vmlinuz: "/k".into(), initrd: "/i".into() };
        spec.xml(&image, Path::new("/d"))
    }

    #[test]
    fn a_plain_guest_is_as_kubevirt_makes_them() {
        let xml = xml(&GuestSpec::new("plain", 256));
        assert!(xml.contains("autodeflate='off' freePageReporting='on'><stats period='10'/>"), "{xml}");
        assert!(!xml.contains("<disk") && !xml.contains("hugepages"), "{xml}");
    }

    #[test]
    fn orders_stand_on_the_kernel_command_line() {
        let spec = GuestSpec::new("g", 256)
            .load(Load::Hold { mib: 9 })
            .swap_mib(64)
            .balloon(Balloon::WithoutDriver)
            .reboot_after_s(7);
        assert!(
            spec.kernel_args().ends_with("seed=g load=hold:9 swap=1 noballoon=1 reboot_after=7"),
            "{}",
            spec.kernel_args()
        );
        assert!(xml(&spec).contains("<disk"));
    }

    #[test]
    fn a_disk_of_files_is_known_by_its_serial_with_and_without_a_swap_beside() {
        let spec = GuestSpec::new("g", 256).data_mib(64);
        assert!(xml(&spec).contains("<serial>data</serial>") && !xml(&spec).contains("/d/swap"));
        assert!(xml(&spec.swap_mib(64)).contains("/d/swap"));
    }

    #[test]
    fn pluggable_memory_is_beside_its_own() {
        let plain = xml(&GuestSpec::new("g", 256));
        assert!(!plain.contains("virtio-mem") && !plain.contains("<maxMemory"), "{plain}");
        let spec = xml(&GuestSpec::new("g", 256).pluggable_mib(128));
        assert!(spec.contains("<memory unit='MiB'>384<") && spec.contains("memory='256'"), "{spec}");
    }

    #[test]
    fn a_guest_can_lack_the_device() {
        assert!(
            xml(&GuestSpec::new("g", 256).balloon(Balloon::Absent)).contains("<memballoon model='none'/>")
        );
    }
}

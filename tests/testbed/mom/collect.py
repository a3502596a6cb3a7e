"""Asks MOM's own collectors what they see of this host and its guests: one answer a line for each line on standard input.

A program of its own beside the product: it imports MOM, unpacked from Debian's package, from the folder in its first
argument, and talks to the libvirt at the URI in its second. It collects as momd does with its libvirt interface, and
commands nothing. The answer is {"host": {FIELD: VALUE}, "guests": {NAME: {FIELD: VALUE}}}, or {"error": WORDS}.
"""

import json
import logging
import os
import sys
import time

# The product tells the time in UTC.
os.environ["TZ"] = "UTC"
time.tzset()

import libvirt  # noqa: E402

sys.path.insert(0, sys.argv[1])
logging.disable(logging.CRITICAL)

from mom.GuestMonitor import GuestMonitor  # noqa: E402
from mom.HypervisorInterfaces import libvirtInterface  # noqa: E402
from mom.Collectors import Collector  # noqa: E402
from mom.Monitor import Monitor  # noqa: E402

HOST = "HostMemory, HostKSM, HostCpu, HostTime"
GUEST = "GuestQemuProc, GuestMemory, GuestBalloon"
SETTINGS = {
    "plot-subdir": "",
    "libvirt-hypervisor-uri": sys.argv[2],
    # Of the guests' statistics too; the product sets as much on guests that it squeezes.
    "guest-monitor-interval": 1,
    "sample-history-length": 10,
    "collectors": GUEST,
}


class Config:
    """What monitors and collectors read of MOM's configuration."""

    def get(self, section, key):
        return SETTINGS[key]

    def getint(self, section, key):
        return int(SETTINGS[key])

    def has_section(self, section):
        return False


def seen(guest, hypervisor):
    fields = guest.collect()
    if fields is not None:
        # As GuestCpuTune asks for it; the rest of what that asks for needs cgroups that a libvirt of a user has not.
        domain = hypervisor._getDomainFromUUID(guest.properties["uuid"])
        fields["vcpu_count"] = domain.vcpusFlags(libvirt.VIR_DOMAIN_VCPU_CURRENT)
    return fields


def main():
    config = Config()
    host = Monitor(config, "host")
    host.config = config
    host.properties["interval"] = 1
    host.collectors = Collector.get_collectors(HOST, host.properties, config)
    hypervisor = libvirtInterface.instance(config)
    guests = {}
    for number in hypervisor.getVmList():
        about = hypervisor.getVmInfo(number)
        if about is not None:
            guests[about["name"]] = GuestMonitor(config, about, hypervisor)
    for _ in sys.stdin:
        try:
            answer = {
                "host": host.collect(),
                "guests": {name: seen(guest, hypervisor) for name, guest in guests.items()},
            }
        except Exception as error:
            answer = {"error": "%s: %s" % (type(error).__name__, error)}
        print(json.dumps(answer), flush=True)


main()

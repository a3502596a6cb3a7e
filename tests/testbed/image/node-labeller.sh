#!/bin/sh
# virt-handler's init container runs this: what QEMU can do on this node, as the three files that virt-handler reads.
set -eu
out=/var/lib/kubevirt-node-labeller
# The test bed's machine may have a KVM that cannot run a guest; libvirt would probe it for half a minute.
rm -f /dev/kvm
virtqemud -d
tries=0
until virsh uri > /dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ]; then
        echo "virtqemud does not answer" >&2
        exit 1
    fi
    sleep 0.1
done
virsh domcapabilities --machine q35 --arch x86_64 --virttype qemu > "$out/virsh_domcapabilities.xml"
virsh hypervisor-cpu-baseline --machine q35 --arch x86_64 --virttype qemu --features \
    "$out/virsh_domcapabilities.xml" > "$out/supported_features.xml"
virsh capabilities > "$out/capabilities.xml"

#!/bin/sh
# Debian has the monolithic libvirtd only. /usr/lib/kubevirt/virtqemud is that program under the name that KubeVirt
# (and whoever looks for a launcher's daemon) expects; its socket gets the second name that they connect to.
set -eu
run="${XDG_RUNTIME_DIR:-/run}/libvirt"
rm -f "$run/libvirt-sock" "$run/virtqemud-sock"
(
    until [ -S "$run/libvirt-sock" ]; do
        sleep 0.05
    done
    ln -f "$run/libvirt-sock" "$run/virtqemud-sock"
) &
exec /usr/lib/kubevirt/virtqemud "$@"

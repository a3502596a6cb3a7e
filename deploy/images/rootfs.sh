#!/bin/sh
# Fills DEST with what one program needs to run alone in a container: the program as /usr/bin/NAME, the shared libraries that
# it is linked to with the loader, users, and the copyright files of the Debian packages that these come from.
#
#   rootfs.sh PROGRAM DEST
#
# Used by the Dockerfile and by the test bed, so both make the same image. Needs Debian, ldd and a C compiler.
set -eu
umask 022

program=$1
dest=$2
here=$(dirname "$(readlink -f "$0")")

# The greatest of libvirt's libraries, 30 MiB of the 60, is ICU's data: conversion tables for character sets other than
# UTF-8, which libxml2 asks for. All XML here is UTF-8. ICU itself is built with an empty stand-in for it; this is one.
stub_icu_data() {
    cc -shared -nostdlib -Os -s -Wl,-soname,"$(basename "$1")" "-DNAME=icudt$(basename "$1" | sed 's/.*\.so\.//')_dat" \
        -o "$dest$1" "$here/icu-stub.c"
}

copyright_of() {
    # Debian's database knows a merged /usr by either name.
    package=$(dpkg-query --search "$(readlink -f "$1")" "$1" "/usr$1" 2>/dev/null | head -n 1 | cut -d: -f1 || true)
    if [ -n "$package" ] && [ -e "/usr/share/doc/$package/copyright" ]; then
        install -D -m 0644 "/usr/share/doc/$package/copyright" "$dest/usr/share/doc/$package/copyright"
    fi
}

install -D -m 0755 "$program" "$dest/usr/bin/$(basename "$program")"
install -D -m 0644 "$here/../../LICENSE" "$dest/usr/share/doc/overcommit/LICENSE"

# `name => path (address)`, or for the loader `path (address)`; a static program prints no path at all.
if ldd "$program" | grep 'not found' >&2; then
    exit 1
fi
ldd "$program" | sed -n 's/^.*\s\(\/[^ ]*\) (0x.*$/\1/p' | sort -u | while read -r library; do
    mkdir -p "$dest$(dirname "$library")"
    case $library in
    */libicudata.so.*) stub_icu_data "$library" ;;
    *) install -m 0755 "$(readlink -f "$library")" "$dest$library" ;;
    esac
    copyright_of "$library"
done

# libvirt looks up who runs it.
mkdir -p "$dest/etc"
cat >"$dest/etc/passwd" <<'EOF'
root:x:0:0:root:/:/sbin/nologin
nonroot:x:65532:65532:nonroot:/:/sbin/nologin
EOF
cat >"$dest/etc/group" <<'EOF'
root:x:0:
nonroot:x:65532:
EOF
install -d -m 1777 "$dest/tmp"

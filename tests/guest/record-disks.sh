#!/bin/sh
# SPDX-License-Identifier: MIT
# Prints what guest-get-fsinfo, guest-get-disks and guest-get-diskstats read of this machine, as a
# file tree that tests/unit/file-tree.h unpacks: for a new test, or to report a wrong reply with.
#
#     sh record-disks.sh "an LVM guest" >machine.tree

file() { # PATH...
    for path; do
        [ -f "$path" ] || continue
        content=$(cat "$path" 2>/dev/null) || continue
        echo "file $path"
        printf '%s\n' "$content" | sed 's/^/|/'
    done
}

link() { # PATH...
    for path; do
        [ -L "$path" ] && echo "link $path $(readlink "$path")"
    done
}

ways() { # every directory on the way to a device, with what it says of drivers and ports
    way=$1
    while [ "$way" != /sys/devices ] && [ "$way" != / ]; do
        echo "$way"
        for port in "$way"/ata[0-9]*; do
            [ -d "$port" ] && echo "$port"
        done
        for controller in "$way"/nvme[0-9]*; do
            [ -L "$controller" ] && echo "$controller" && (ways "$(readlink -f "$controller")")
        done
        way=${way%/*}
    done
}

echo "# Recorded by record-disks.sh on a machine with Linux $(uname -r)${1:+: $1}"
echo "file /proc/1/mountinfo"
sed 's/^/|/' /proc/self/mountinfo
file /proc/diskstats
for device in /sys/class/block/*; do
    place=$(readlink -f "$device")
    link "$device"
    [ -f "$place/dev" ] && link "/sys/dev/block/$(cat "$place/dev")"
    file "$place/dev" "$place/uevent" "$place/size" "$place/partition" "$place/serial" \
        "$place/loop/backing_file" "$place/dm/name"
    link "$place"/slaves/*
    [ -f "$place/dev" ] && file "/run/udev/data/b$(cat "$place/dev")"
done
for device in /sys/class/block/*; do
    ways "$(readlink -f "$device")"
done | sort -u | while read -r directory; do
    if [ -L "$directory" ]; then
        link "$directory"
    else
        echo "dir $directory"
        link "$directory/driver"
        file "$directory/type" "$directory/state"
    fi
done
link /sys/fs/btrfs/*/devices/* /dev/mapper/*
exit 0

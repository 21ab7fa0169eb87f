#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Process 1 of a test guest. What it does is said by /etc/guest/options (see vm.py); the agent is
# not started here but by the tests, through the debug shell on the second serial port.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
. /etc/guest/options

device_with_serial() { # SERIAL: waits for the virtio disk and prints its name
    tries=0
    while [ $tries -lt 500 ]; do
        for block in /sys/block/vd*; do
            [ "$(cat "$block/serial" 2>/dev/null)" = "$1" ] && echo "${block##*/}" && return 0
        done
        usleep 10000
        tries=$((tries + 1))
    done
    echo "init: no disk $1" >/dev/console
    return 1
}

wait_for_device() { # NODE
    tries=0
    while [ ! -b "$1" ] && [ $tries -lt 500 ]; do
        usleep 10000
        tries=$((tries + 1))
    done
}

if [ ! -e /etc/guest/on-disk ]; then
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t devtmpfs dev /dev
    while read -r module; do
        insmod "/lib/modules/$module.ko" || echo "init: $module was not loaded" >/dev/console
    done </etc/guest/modules
    if [ "$SWAP" = 1 ]; then
        swap=$(device_with_serial SWAP)
        cat "/sys/block/$swap/dev" >/sys/power/resume 2>/dev/null # ends here if it holds an image
        swapon "/dev/$swap"
    fi
    if [ "$ROOT_DISK" = 1 ]; then
        mount -t ext4 "/dev/$(device_with_serial ROOT)" /newroot
        for directory in proc sys dev; do
            mount -o move /$directory /newroot/$directory
        done
        exec switch_root /newroot /init
    fi
fi

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mkdir -p /run/lock
hostname guest
ip link set lo up

if [ "$UDEV" = 1 ]; then
    /lib/systemd/systemd-udevd --daemon --resolve-names=late
    udevadm trigger --action=add
    udevadm settle --timeout=20
elif [ "$PORT_LINKS" = 1 ]; then
    mkdir -p /dev/virtio-ports
    for port in /sys/class/virtio-ports/*; do
        [ -s "$port/name" ] && ln -sf "../${port##*/}" "/dev/virtio-ports/$(cat "$port/name")"
    done
fi
if [ "$NETWORK" = 1 ]; then
    ip link set eth0 up
    ip addr add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
fi
if [ "$EXT4_DISK" = 1 ]; then
    mkdir -p /mnt/ext4
    wait_for_device "/dev/$(device_with_serial EXT4)1"
    mount -t ext4 "/dev/$(device_with_serial EXT4)1" /mnt/ext4
fi
if [ "$XFS_DISK" = 1 ]; then
    mkdir -p /mnt/xfs
    wait_for_device /dev/sda
    mount -t xfs /dev/sda /mnt/xfs
fi
if [ "$LOOP" = 1 ]; then
    mkdir -p /mnt/loop
    mount -o loop /mnt/ext4/loop.img /mnt/loop
fi
if [ "$BIND" = 1 ]; then
    mkdir -p /mnt/ext4/sub /mnt/bind
    mount --bind /mnt/ext4/sub /mnt/bind
fi

# The debug shell reads commands from a pipe, for a shell on a terminal would talk back.
exec 3<>/dev/ttyS1
stty raw -echo <&3
while :; do
    dd bs=4096 <&3 2>/dev/null | setsid sh >&3 2>&1
    usleep 200000
done &
exec 3>&-
echo "init: ready" >/dev/console

# A test may have another process 1; the shell stays.
if [ -e /etc/guest/process-1 ]; then
    exec $(cat /etc/guest/process-1)
fi

# reaps, as process 1 has to
trap : CHLD
while :; do
    wait
    sleep 1000 &
    wait $!
done

#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The test guest's shutdown program: notes what it was asked for, then does it.
echo "shutdown: $*" >/dev/console
echo "$*" >>/run/shutdown.log
action=poweroff
for argument in "$@"; do
    case "$argument" in
    -r | --reboot) action=reboot ;;
    -H | --halt) action=halt ;;
    esac
done
sync
exec /bin/busybox $action -f

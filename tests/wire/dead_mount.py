# SPDX-License-Identifier: MIT
"""A FUSE filesystem with one file, "program", that nobody can open: no open is ever answered.

    python3 dead_mount.py DIRECTORY

Speaks the kernel's protocol itself, as far as that takes. Prints "mounted", and "opening" for
each open. The opens fail when it is killed; the mount stays and answers ENOTCONN.
"""

import ctypes
import os
import stat
import struct
import sys

LOOKUP, GETATTR, OPEN, INIT, FORGET, BATCH_FORGET, INTERRUPT = 1, 3, 14, 26, 2, 42, 36
ENOENT, ENOSYS = 2, 38
ROOT, PROGRAM = 1, 2
FOREVER = 1 << 30


def attributes(inode):
    mode, links = (stat.S_IFDIR | 0o755, 2) if inode == ROOT else (stat.S_IFREG | 0o755, 1)
    # ino size blocks atime mtime ctime; their nanoseconds; mode nlink uid gid rdev blksize flags
    return struct.pack("<6Q3I7I", inode, 100, 1, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0)


def answer(opcode, inode, body):
    """The reply's payload, or an errno."""
    if opcode == INIT:
        major, minor, readahead = struct.unpack_from("<III", body)
        return struct.pack("<IIIIHHIIHHI28x", 7, min(minor, 31), readahead, 0, 1, 1, 4096, 1, 0, 0,
                           0)
    if opcode == LOOKUP:
        if body.rstrip(b"\0") != b"program":
            return ENOENT
        return struct.pack("<4Q2I", PROGRAM, 1, FOREVER, FOREVER, 0, 0) + attributes(PROGRAM)
    if opcode == GETATTR:
        return struct.pack("<QII", FOREVER, 0, 0) + attributes(inode)
    return ENOSYS


def main(directory):
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % device
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"dead", directory.encode(), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount " + directory)
    print("mounted", flush=True)
    while True:
        request = os.read(device, 1 << 20)
        length, opcode, unique, inode = struct.unpack_from("<IIQQ", request)
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            continue
        if opcode == OPEN:
            print("opening", flush=True)
            continue
        reply = answer(opcode, inode, request[40:length])
        error, payload = (-reply, b"") if isinstance(reply, int) else (0, reply)
        os.write(device, struct.pack("<IiQ", 16 + len(payload), error, unique) + payload)


if __name__ == "__main__":
    main(sys.argv[1])

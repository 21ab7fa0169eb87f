#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The layers, checked: who may include what.

    main ─▶ cmds ─▶ jobs ─▶ io            each may use what an arrow leads to, and base
       └─────┴───────┴────▶ security      (the broker, in jobs, enforces the rules for programs)

ARCHITECTURE.md says why.
"""

import re

import lint

# The folder of src/ → the folders whose headers it may include. "" is src/ itself: main.
LAYERS = {
    "base": {"base"},
    "security": {"security", "base"},
    "io": {"io", "base"},
    "jobs": {"jobs", "io", "security", "base"},
    "cmds": {"cmds", "jobs", "io", "security", "base"},
    "": {"", "cmds", "jobs", "io", "security", "base"},
    "client": {"client", "io", "base"},
}

# Of io, cmds and the client know the JSON and what became of a reply, never a channel or session.
IO_HEADERS = {"io/json.h", "io/json-writer.h", "io/delivery.h"}
IO_USERS = {"cmds", "client"}

# The one place in cmds where requests come in.
SESSION_USERS = {"cmds/dispatch.c": "io/session.h"}

LIBEVENT = re.compile(r"event2?/|ev(ent|http|dns|rpc|util|buffer)\b.*\.h$")
LIBEVENT_LAYERS = {"io", "jobs", ""}
YAJL = re.compile(r"yajl/")
YAJL_FILE = "io/json.c"

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]*)"|<([^>]*)>)')


def layer_of(path):
    return path.split("/")[0] if "/" in path else ""


def own_header(path, sources):
    header = path[:-2] + ".h"
    return header if path.endswith(".c") and header in sources else None


def judge_project_include(path, header, sources):
    layer, other = layer_of(path), layer_of(header)
    if header not in sources:
        return f'"{header}" is not below src/; includes are written from there'
    if not header.endswith(".h"):
        return f'"{header}" is no header'
    if other not in LAYERS[layer]:
        return f'"{header}": {layer or "main"} may not use {other or "main"}'
    if SESSION_USERS.get(path) == header:
        return None
    if layer in IO_USERS and other == "io" and header not in IO_HEADERS:
        return f'"{header}": of io, {layer} may use only {" and ".join(sorted(IO_HEADERS))}'
    return None


def judge_system_include(path, header):
    if YAJL.match(header) and path != YAJL_FILE:
        return f"<{header}>: yajl stays in src/{YAJL_FILE}"
    if LIBEVENT.match(header) and layer_of(path) not in LIBEVENT_LAYERS:
        return f"<{header}>: libevent stays in src/io, src/jobs and main"
    return None


def check_file(root, path, sources):
    own = own_header(path, sources)
    for number, line in enumerate(lint.read_lines(root / "src", path) or [], 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        project, system = match.groups()
        if own and project != own:
            yield f'src/{path}:{number}: its own header "{own}" comes first'
        own = None
        if project is not None:
            complaint = judge_project_include(path, project, sources)
        else:
            complaint = judge_system_include(path, system)
        if complaint:
            yield f"src/{path}:{number}: {complaint}"


def check(root):
    sources = {str(name.relative_to("src")) for name in lint.project_files(root)
               if name.parts[0] == "src" and name.suffix in (".c", ".h")}
    if not sources:
        yield f"{root}: no sources found"
    for path in sorted(sources):
        if layer_of(path) not in LAYERS:
            yield f"src/{path}:1: the folder is no layer that check-includes.py knows"
        else:
            yield from check_file(root, path, sources)


if __name__ == "__main__":
    lint.main(check)

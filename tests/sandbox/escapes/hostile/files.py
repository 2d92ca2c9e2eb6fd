"""Files of the user, of callgate, of other servers, of the project."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct

from calls import LIBC, call
from probes import Refused, marked, probe, read


@probe("files", "reads a private SSH key in the user's home")
def read_ssh_key(facts):
    return marked(read(facts["home"] + "/.ssh/id_ed25519"))


@probe("files", "lists the user's home")
def list_home(facts):
    names = os.listdir(facts["home"])
    if ".bashrc" not in names:
        raise Refused("not the user's home")
    return ",".join(sorted(names))[:60]


@probe("files", "asks for size and times of a file in the user's home (stat)")
def stat_home_file(facts):
    return f"{os.stat(facts['home'] + '/.ssh/id_ed25519').st_size} bytes"


@probe("files", "reads another client's configuration with an API key in it")
def read_client_config(facts):
    return marked(read(facts["home"] + "/.mcp.json"))


@probe("files", "reads the private home of another server")
def read_other_server_home(facts):
    return marked(read(facts["state"] + "/servers/other/home/token"))


@probe("files", "reads callgate's signing key")
def read_callgate_key(facts):
    return marked(read(facts["state"] + "/keys/signing"))


@probe("files", "appends to ~/.bashrc, to be run at the next login")
def write_bashrc(facts):
    with open(facts["home"] + "/.bashrc", "a") as file:
        file.write(facts["nonce"])
    return "appended"


@probe("files", "changes a client's configuration in the home, to be started again as something else")
def write_client_config(facts):
    with open(facts["home"] + "/.mcp.json", "a") as file:
        file.write(facts["nonce"])
    return "appended"


@probe("files", "writes a git hook into the project it may write to")
def write_git_hook(facts):
    with open(facts["project"] + "/.git/hooks/pre-commit", "w") as file:
        file.write("#!/bin/sh\n# " + facts["nonce"])
    return "written"


@probe("files", "writes an agent's configuration into the project it may write to")
def write_project_agent_config(facts):
    with open(facts["project"] + "/.mcp.json", "w") as file:
        file.write(facts["nonce"])
    return "written"


@probe("files", "renames the project's .git away and puts its own there")
def replace_git_directory(facts):
    git = facts["project"] + "/.git"
    os.rename(git, git + "-moved")
    os.makedirs(git + "/hooks")
    with open(git + "/hooks/post-checkout", "w") as file:
        file.write(facts["nonce"])
    return "replaced"


@probe("files", "changes its own program, to be hostile from the next start on")
def write_own_package(facts):
    with open(facts["package"] + "/index.py", "a") as file:
        file.write("# " + facts["nonce"])
    return "appended"


@probe("files", "truncates a file of its own package, which it may read")
def truncate_own_package(facts):
    os.truncate(facts["package"] + "/data.txt", 0)
    return "truncated"


@probe("files", "overwrites callgate's lock")
def write_callgate_lock(facts):
    with open(facts["state"] + "/callgate.lock", "w") as file:
        file.write(facts["nonce"])
    return "overwritten"


@probe("files", "writes to /var/tmp")
def write_var_tmp(facts):
    with open(f"/var/tmp/{facts['nonce']}", "w") as file:
        file.write("x")
    return "written"


@probe("files", "leaves a file in the host's /tmp")
def write_host_tmp(facts):
    with open(f"/tmp/{facts['nonce']}", "w") as file:
        file.write("x")
    return "written"


@probe("files", "changes mode and times of a file in the user's home")
def chmod_home_file(facts):
    os.chmod(facts["home"] + "/.ssh/id_ed25519", 0o644)
    return "mode changed"


@probe("files", "watches what the user does in the home (inotify)")
def watch_home(facts):
    watcher = LIBC.inotify_init1(0)
    if LIBC.inotify_add_watch(watcher, facts["home"].encode(), 0x3FF) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "watching"


@probe("files", "puts a link in place of a directory it may write to, and reads through it")
def symlink_swap(facts):
    place = facts["project"] + "/swap"
    os.makedirs(place, exist_ok=True)
    os.rename(place, place + "-old")
    os.symlink(facts["home"], place)
    return marked(read(place + "/.ssh/id_ed25519"))


@probe("files", "writes through a link that it made in the project")
def symlink_write(facts):
    place = facts["project"] + "/link"
    os.symlink(facts["home"] + "/.profile", place)
    with open(place, "a") as file:
        file.write(facts["nonce"])
    return "written"


@probe("files", "makes a hard link to a key in the home")
def hard_link(facts):
    os.link(facts["home"] + "/.ssh/id_ed25519", facts["project"] + "/linked")
    return marked(read(facts["project"] + "/linked"))


@probe("files", "opens the home by file handle, past all mounts (open_by_handle_at)")
def open_by_handle(facts):
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    call("name_to_handle_at", -100, facts["home"].encode(), handle, ctypes.byref(mount), 0)
    where = os.open("/", os.O_RDONLY)
    descriptor = call("open_by_handle_at", where, handle, os.O_RDONLY)
    return ",".join(os.listdir(descriptor))[:60]


@probe("files", "goes through /proc/PID/root of a process of the host")
def proc_root(facts):
    for pid in ("1", "self", str(facts["victim"]), str(os.getppid())):
        with contextlib.suppress(OSError, Refused):
            return marked(read(f"/proc/{pid}/root{facts['home']}/.ssh/id_ed25519"))
    raise Refused("none shows the host")


@probe("files", "reads the secret in memory of another server (/proc/PID/root/run/secrets, /proc/PID/fd)")
def proc_fd(facts):
    return marked(read(f"/proc/{facts['victim']}/fd/{facts['victim_fd']}"))


@probe("files", "leaves a set-user-ID program in the project, for another user of the machine to become this one")
def leave_setuid_file(facts):
    path = facts["project"] + "/setuid"
    os.umask(0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o4755)
    if not os.fstat(descriptor).st_mode & 0o4000:
        os.fchmod(descriptor, 0o4755)
    return oct(os.fstat(descriptor).st_mode)


@probe("files", "learns who has an account on the machine")
def host_accounts(facts):
    if facts["account"].encode() not in read("/etc/passwd"):
        raise Refused("only made-up accounts")
    return "the host's list"


@probe("files", "learns the machine's name")
def host_name(facts):
    if os.uname().nodename != facts["hostname"]:
        raise Refused(os.uname().nodename)
    return "the host's"


@probe("files", "opens memory, disks and kernel devices")
def device_nodes(facts):
    names = "mem kmem port kmsg kvm fuse net/tun sda vda nvme0n1 loop-control uinput vhost-net vhost-vsock userfaultfd"
    for name in names.split():
        with contextlib.suppress(OSError):
            os.close(os.open("/dev/" + name, os.O_RDWR | os.O_NONBLOCK))
            return name
        with contextlib.suppress(OSError):
            os.close(os.open("/dev/" + name, os.O_RDONLY | os.O_NONBLOCK))
            return name
    raise Refused("none can be opened")

"""Which system calls a confined server may make, as data: an allow-list of our own in the OCI form.

It starts from what container runtimes allow a process without capabilities and takes away what a server of this
kind has no use for and attackers have: looking into other processes (ptrace, process_vm_*, pidfd_getfd, kcmp),
kernel keyrings, io_uring, bpf, userfaultfd, executable memory files, personality, new namespaces, mounts, and
every socket family but the internet's. What is not named answers EPERM; what is newer than the table ENOSYS, so
that a C library falls back to an older call; clone3 ENOSYS too, because its flags cannot be read by a filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from callgate.sandbox.seccomp_variant import Variant

Action: TypeAlias = Literal["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"]
Operator: TypeAlias = Literal[
    "SCMP_CMP_EQ",
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
    "MASKED_NE",
]
"""OCI's, and one of ours, which its form can only say bit by bit (`to_oci` does)."""

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_STREAM = 1
IPPROTO_TCP = 6
TIOCSTI = 0x5412
INT = 0xFFFFFFFF
"""The kernel reads an `int` argument from the low half of the register: a filter must look at no more."""
NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
SOCKET_KIND = 0xF


@dataclass(frozen=True, slots=True)
class Argument:
    """A condition on one argument (0-5). For the masked operators `value` is the mask and `value_two` what is left."""

    index: int
    op: Operator
    value: int
    value_two: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """An action for the named calls where every condition holds. Of several rules for a call the first one counts."""

    names: tuple[str, ...]
    action: Action = "SCMP_ACT_ALLOW"
    errno: int = EPERM
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """Rules, and what happens to a call that none of them covers."""

    rules: tuple[Rule, ...]
    errno: int = EPERM


FILES = """
access chdir close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 fallocate fchdir
fchmod fchown fcntl fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate
getcwd getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
lgetxattr link linkat listxattr listxattrat llistxattr lseek lstat mkdir mkdirat mknod mknodat newfstatat open openat
openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv rename renameat
renameat2 rmdir sendfile splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee umask unlink
unlinkat write writev cachestat file_getattr
"""
METADATA_BY_PATH = """
chmod chown fchmodat fchmodat2 fchownat futimesat lchown lremovexattr lsetxattr removexattr removexattrat setxattr
setxattrat utime utimensat utimes
"""
MEMORY = """
brk get_mempolicy madvise map_shadow_stack membarrier mincore mlock mlock2 mlockall mmap mprotect mremap mseal msync
munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect set_mempolicy
"""
PROCESSES = """
arch_prctl capget capset execve execveat exit exit_group fork getcpu getegid geteuid getgid getgroups getpgid getpgrp
getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid getuid ioprio_get ioprio_set kill
landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_open pidfd_send_signal prctl rseq
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
get_robust_list get_thread_area set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups
setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setuid sysinfo tgkill times tkill uname
vfork wait4 waitid lsm_get_self_attr lsm_list_modules
"""
TIME_AND_SIGNALS = """
alarm clock_getres clock_gettime clock_nanosleep getitimer getrandom gettimeofday nanosleep pause restart_syscall
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_tgsigqueueinfo setitimer sigaltstack signalfd signalfd4 time timer_create timer_delete timer_getoverrun
timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime
"""
WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 futex futex_requeue
futex_wait futex_waitv futex_wake io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit pipe pipe2 poll
ppoll pselect6 select
"""
SOCKETS = """
accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg
sendto setsockopt shutdown
"""
SHARED_BETWEEN_PROCESSES = """
mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget
semop semtimedop shmat shmctl shmdt shmget
"""


def _is(index: int, value: int, mask: int = INT) -> Argument:
    return Argument(index, "SCMP_CMP_MASKED_EQ", mask, value)


def profile(variant: Variant) -> Profile:
    """The rules of a variant."""
    groups = [FILES, MEMORY, PROCESSES, TIME_AND_SIGNALS, WAITING, SOCKETS]
    if not variant.alone:
        groups += [METADATA_BY_PATH, SHARED_BETWEEN_PROCESSES]
    names = {name for group in groups for name in group.split()}
    if variant.truncate:
        names.add("truncate")
    rules = [
        Rule(tuple(sorted(names))),
        Rule(("ioctl",), arguments=(Argument(1, "MASKED_NE", INT, TIOCSTI),)),
        Rule(("clone",), arguments=(_is(0, 0, NEW_NAMESPACES),)),
        Rule(("clone3",), "SCMP_ACT_ERRNO", ENOSYS),
        # Its own limits only: with the same user id it could change those of processes outside.
        Rule(("prlimit64",), arguments=(_is(0, 0),)),
        Rule(("socketpair",), arguments=(_is(0, AF_UNIX),)),
        Rule(("socket",), "SCMP_ACT_ERRNO", EAFNOSUPPORT, (_is(0, AF_NETLINK),)),
    ]
    if variant.unix_sockets:
        rules.append(Rule(("socket",), arguments=(_is(0, AF_UNIX),)))
    if variant.internet:
        rules += [Rule(("socket",), arguments=conditions) for conditions in _internet(alone=variant.alone)]
    if variant.alone:
        # Times of an open file: its path is NULL then.
        rules.append(Rule(("utimensat",), arguments=(Argument(1, "SCMP_CMP_EQ", 0),)))
    return Profile(tuple(rules))


def _internet(*, alone: bool) -> list[tuple[Argument, ...]]:
    families = (AF_INET, AF_INET6)
    if not alone:
        return [(_is(0, family),) for family in families]
    # Landlock holds TCP by port. Everything else that could leave is no socket here: UDP, raw, SCTP, MPTCP.
    return [
        (_is(0, family), _is(1, SOCK_STREAM, SOCKET_KIND), _is(2, protocol))
        for family in families
        for protocol in (0, IPPROTO_TCP)
    ]


def to_oci(rules: Profile) -> dict[str, Any]:
    """The profile as `seccomp.json` for podman and docker (OCI runtime-spec, `linux.seccomp`).

    No two rules of it overlap, so the order in which a runtime adds them does not matter.
    """
    written: list[Mapping[str, Any]] = []
    for rule in rules.rules:
        for arguments in _in_oci_terms(rule.arguments):
            one: dict[str, Any] = {"names": list(rule.names), "action": rule.action}
            if rule.action == "SCMP_ACT_ERRNO":
                one["errnoRet"] = rule.errno
            if arguments:
                one["args"] = [
                    {"index": a.index, "op": a.op, "value": a.value, "valueTwo": a.value_two} for a in arguments
                ]
            written.append(one)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": rules.errno,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": written,
    }


def _in_oci_terms(arguments: tuple[Argument, ...]) -> list[tuple[Argument, ...]]:
    """A rule with MASKED_NE becomes one rule a bit: they differ where one bit does."""
    for place, argument in enumerate(arguments):
        if argument.op != "MASKED_NE":
            continue
        rest = arguments[:place] + arguments[place + 1 :]
        bits = [1 << bit for bit in range(64) if argument.value >> bit & 1]
        return [(*rest, Argument(argument.index, "SCMP_CMP_MASKED_EQ", bit, bit & ~argument.value_two)) for bit in bits]
    return [arguments]

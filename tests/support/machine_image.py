"""The image of the test machine: Debian with systemd, AppArmor and Docker, booted once and put to sleep.

It lies in `.tools/machine/`, by a digest of how it is made: a disk, a kernel, and the memory of the machine as it was
when all its services had started. A test session wakes that up in two seconds. The processor is emulated (QEMU's
TCG), because that works wherever tests run, also on a virtual machine that cannot nest others. The programs in it are
Debian's and run in the tests only, so their licences do not touch callgate's.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.machine import Machine

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".tools" / "machine"
AGENT = Path(__file__).with_name("machine_agent.py")
LOCK = ROOT / "requirements" / "run.lock"

RELEASE = "trixie"
PYTHON = "3.13"
"""What that release's `python3` is."""
KERNEL = "linux-image-cloud-amd64"
PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "kmod", "dbus", "dbus-user-session", "libpam-systemd", "procps", "iproute2"),
    *("apparmor", "apparmor-profiles", "bubblewrap", "uidmap", "podman", "runc", "docker.io", "docker-cli"),
    *("python3", "git", "initramfs-tools", "zstd", "busybox-static", KERNEL),
)
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/lib/cni/*")
DISK_BYTES = 6 << 30
"""Of a sparse file."""
SECONDS = 600
PERSON = "person"
"""An ordinary user with a session of systemd's that lasts. `dockhand` is one more, who may use Docker."""
USERS = ((PERSON, 1000), ("dockhand", 1001))
SLOWNESS = 10
"""How many times as long as usual callgate waits in there for a proof or an engine: the processor is emulated."""
CHECKOUT = "/opt/callgate"
"""Where the machine sees this checkout; it belongs to `person`."""

MACHINE = (
    *("-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "Nehalem,-cx16", "-smp", "2", "-m", "1536"),
    *("-nic", "none", "-vga", "none", "-display", "none", "-no-reboot"),
)
# cx16: QEMU 7.2 leaves wrong flags after cmpxchg16b, which the kernel's allocator would use.
KERNEL_LINE = "root=/dev/vda rw console=ttyS0 mitigations=off nokaslr no_timer_check"
_FILES = {
    "etc/hostname": "machine\n",
    "etc/hosts": "127.0.0.1 localhost machine\n::1 localhost\n",
    "etc/docker/daemon.json": '{"bridge": "none", "iptables": false, "ip6tables": false}\n',
    "etc/subuid": "".join(f"{name}:{100000 * (number - 999)}:65536\n" for name, number in USERS),
    "etc/subgid": "".join(f"{name}:{100000 * (number - 999)}:65536\n" for name, number in USERS),
    "etc/systemd/system/machine-agent.service": (
        "[Unit]\nDescription=The agent of the tests\n[Service]\nExecStart=/usr/bin/python3 /usr/local/lib/machine-agent\n"
        "Delegate=yes\nOOMPolicy=continue\nTasksMax=infinity\nLimitNOFILE=1024:524288\n[Install]\nWantedBy=multi-user.target\n"
    ),
    f"usr/local/lib/python{PYTHON}/dist-packages/callgate.pth": f"{CHECKOUT}/src\n",
    "usr/local/bin/callgate": (
        "#!/usr/bin/python3\nimport sys\nfrom callgate.cli.main import main\n"
        "from callgate.sandbox import container_backend, selftest\n"
        f"selftest.SECONDS *= {SLOWNESS}\ncontainer_backend.SECONDS *= {SLOWNESS}\n"
        "if __name__ == '__main__':\n    sys.exit(main())\n"
    ),
}
_LINKS = {
    "etc/systemd/system/multi-user.target.wants/machine-agent.service": "/etc/systemd/system/machine-agent.service",
    "etc/systemd/system/timers.target": "/dev/null",  # nothing of its own while tests run
    "etc/systemd/system/getty.target": "/dev/null",
    "etc/systemd/system/default.target": "/usr/lib/systemd/system/multi-user.target",
}
PROFILES = {"runc", "crun", "slirp4netns", "busybox", "unprivileged_userns"}
"""Of Debian's AppArmor profiles, those of programs that are in there. The parser needs a second for each dozen others."""
UP_TO_DATE = ("etc/.updated", "var/.updated")
"""Newer than /usr, they say that a first boot has nothing to update."""
_BOOT_MODULES = "virtio_blk\n"
_WARM = (
    "import asyncio, ssl, sqlite3, orjson, jiter, hyperscan, blake3, httptools, uvloop, cryptography, yaml, h11,"
    "securesystemslib.dsse, keyring, pyrage, rapidfuzz, packaging.version, platformdirs, rfc8785"
)


KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Unavailable(Exception):
    """No test machine can be had here; the message says why."""


class Foreign(Unavailable):
    """Nor on any machine of this kind: `tools/install-programs` installs nothing for it there."""


def directory() -> Path:
    """The image of this recipe, made if it is not there. Raises Unavailable."""
    if os.uname().machine != "x86_64":
        raise Foreign("the test machine is made on x86-64 only")
    if not os.path.exists(KEYS):
        raise Foreign("the keys of Debian's archive are not installed (debian-archive-keyring)")
    _needs("qemu-system-x86_64")
    place = PLACE / _digest()
    if os.getuid() and not (place / "memory").exists():
        raise Unavailable("making the test machine's disk takes root, once: python -m tests.support.machine_image")
    if not os.getuid():  # who makes none need not wait for another who does, nor write here
        PLACE.mkdir(parents=True, exist_ok=True)
        with open(PLACE / ".lock", "w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not (place / "memory").exists():
                _build(place)
    return place


def _digest() -> str:
    """Of all that decides what is in the image; the kept memory is one of this very QEMU's."""
    version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, check=True).stdout
    parts = [Path(__file__).read_bytes(), AGENT.read_bytes(), LOCK.read_bytes(), version]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def _needs(*programs: str) -> None:
    missing = [one for one in programs if not shutil.which(one)]
    if missing:
        raise Unavailable(f"not installed: {', '.join(missing)} (tools/install-programs)")


def _build(place: Path) -> None:
    _needs("mmdebstrap", "mke2fs")
    for old in PLACE.glob("*/"):
        shutil.rmtree(old)  # of other recipes, or half made
    place.mkdir()
    with tempfile.TemporaryDirectory(prefix="machine-", dir=PLACE) as work:
        tree = Path(work) / "root"
        _debian(tree)
        _ours(tree)
        for name, source in (("kernel", "vmlinuz"), ("initrd", "initrd.img")):
            shutil.copy(next((tree / "boot").glob(f"{source}-*")), place / name)
        disk = place / "disk"
        with open(disk, "wb") as file:
            file.truncate(DISK_BYTES)
        options = ["-O", "^has_journal", "-E", "root_owner=0:0,lazy_itable_init=1", "-d", str(tree)]
        _run(["mke2fs", "-q", "-F", "-t", "ext4", *options, str(disk)])
    _boot(place)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{command[0]} failed: {error.stderr.decode(errors='replace')[-800:]}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{command[0]} took longer than {SECONDS} s") from error


def _debian(tree: Path) -> None:
    """The release's packages, from where this machine has its own."""
    modules = "/usr/share/initramfs-tools/modules.d"
    before = (
        f'mkdir -p "$1/etc/initramfs-tools/conf.d" "$1{modules}" && echo MODULES=list > "$1/etc/initramfs-tools/conf.d/machine"'
        f' && printf "{_BOOT_MODULES}" > "$1{modules}/machine"'
    )
    _run(
        [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory", "--skip=check/empty"),
            *('--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io"),
            *(f"--dpkgopt=path-exclude={one}" for one in LEFT_OUT),
            f"--essential-hook={before}",
            f"--include={','.join(PACKAGES)}",
            *(RELEASE, str(tree), f"deb [signed-by={KEYS}] {_archive()} {RELEASE} main"),
        ]
    )  # fmt: skip


def _archive() -> str:
    """The archive that apt of this machine uses for Debian."""
    form = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"
    for again in (False, True):
        if again:
            _run(["apt-get", "update", "-qq"])
        said = subprocess.run(
            ["apt-get", "indextargets", "--format", form, "Created-By: Packages"], capture_output=True, text=True, check=True
        )  # fmt: skip
        for line in said.stdout.splitlines():
            origin, label, component, address = line.split("|", 3)
            if (origin, label, component) == ("Debian", "Debian", "main"):
                return address
    raise Unavailable("apt of this machine knows no archive of Debian's")


def _ours(tree: Path) -> None:
    """Users, the agent, callgate's locked libraries for the Python in there, and a little order."""
    for name, content in _FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")
    (tree / "usr/local/bin/callgate").chmod(0o755)
    shutil.copy(AGENT, tree / "usr/local/lib/machine-agent")
    for name, target in _LINKS.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    for name, number in USERS:
        extra = ["--groups=docker"] if name == "dockhand" else []
        _run(["useradd", f"--root={tree}", f"--uid={number}", "--create-home", "--shell=/bin/bash", *extra, name])
        linger = tree / "var/lib/systemd/linger"
        linger.mkdir(exist_ok=True)
        (linger / name).touch()
    checkout = tree / CHECKOUT.strip("/")
    checkout.mkdir(parents=True)
    for profile in (tree / "etc/apparmor.d").iterdir():
        if profile.is_file() and profile.name not in PROFILES:
            profile.unlink()
    _compiled(tree, checkout)
    packages = f"usr/local/lib/python{PYTHON}/dist-packages"
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(tree / packages)]
    locked = ["--only-binary", ":all:", "--require-hashes", "--no-deps", "-r", str(LOCK)]
    _run([*uv, f"--python-version={PYTHON}", "--python-platform=x86_64-manylinux_2_28", *locked])
    _run(["chroot", str(tree), "python3", "-m", "compileall", "-qq", f"/{packages}"])
    for name in UP_TO_DATE:
        (tree / name).touch()


def _compiled(tree: Path, checkout: Path) -> None:
    """This checkout's bytecode without its source: compiled here, it takes a tenth of the time.

    What has changed when the source comes, `put_checkout` compiles again: times and sizes tell.
    """
    shutil.copytree(ROOT / "src", checkout / "src", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    _run(["chroot", str(tree), "python3", "-m", "compileall", "-qq", f"{CHECKOUT}/src"])
    for path in (checkout, *checkout.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            path.unlink()
        else:
            os.chown(path, USERS[0][1], USERS[0][1])


def _boot(place: Path) -> None:
    """Boot it once, wait until it is up, and keep its memory."""
    from tests.support.machine import started

    with started(place, fresh=True) as machine:
        _settle(machine)
        machine.sleep(place / "memory.new")
    os.rename(place / "memory.new", place / "memory")


def _settle(machine: Machine) -> None:
    machine.run(["systemctl", "is-system-running", "--wait"], seconds=300)
    machine.check(["docker", "version"], seconds=120)
    for name, _ in USERS:
        machine.check(["systemctl", "--user", "is-system-running", "--wait"], user=name, seconds=120)
    machine.check(["python3", "-c", _WARM], seconds=300)
    machine.check(["sync"])


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a machine that boots is ended, too
    try:
        print(directory())
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

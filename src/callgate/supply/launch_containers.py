"""`docker run` and `podman run`: which image, and what the container gets of this machine."""

from __future__ import annotations

from callgate.errors import TrustError
from callgate.runners import CONTAINER_ENGINES, program_name
from callgate.supply.launch_line import LaunchLine, LaunchNote, assigned
from callgate.supply.launch_words import Options, names, read_options
from callgate.text import visible

VALUED = names(
    "-a --attach --add-host --annotation --blkio-weight --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile "
    "-c --cpu-shares --cpu-period --cpu-quota --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule "
    "--device-read-bps --device-write-bps --dns --dns-option --dns-search --domainname --entrypoint -e --env "
    "--env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries --health-timeout "
    "-h --hostname --ip --ip6 --ipc --isolation --kernel-memory -l --label --label-file --link --log-driver "
    "--log-opt --mac-address -m --memory --memory-reservation --memory-swap --memory-swappiness --mount --name "
    "--network --net --network-alias --oom-score-adj --pid --pids-limit --platform -p --publish --pull --restart "
    "--runtime --secret --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs "
    "--ulimit -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir --arch --authfile "
    "--cgroups --conmon-pidfile --image-volume --pidfile --pod --requires --sdnotify --subgidname --subuidname "
    "--systemd --timeout --timezone --tz --uidmap --gidmap --umask --variant --detach-keys"
)
FLAGS = names(
    "-d --detach -i --interactive -t --tty -P --publish-all --rm --init --privileged --read-only --read-only-tmpfs "
    "--no-healthcheck --oom-kill-disable --sig-proxy --disable-content-trust -q --quiet --replace --rmi --no-hosts "
    "--http-proxy --no-hostname --env-host --tls-verify --use-api-socket"
)
_GLOBAL_VALUED = names(
    "-H --host --config -c --context -l --log-level --tlscacert --tlscert --tlskey --connection --url --identity "
    "--root --runroot --runtime --storage-driver --cgroup-manager --namespace -n --address -a --cni-path"
)
_GLOBAL_FLAGS = names("-D --debug --tls --tlsverify --remote -r --noout --syslog")
_HOST_MODES = names("--network --net --pid --ipc --uts --userns --cgroupns")
_SENSITIVE = ("/", "/etc", "/root", "/home", "/proc", "/sys", "/dev", "/boot", "/var", "/usr", "/var/run", "/run")
_SECRET_PLACES = (".ssh", ".aws", ".gnupg", ".kube", ".docker", ".config", ".netrc", "docker.sock", "podman.sock")


def knows(name: str, words: tuple[str, ...]) -> bool:
    """Whether `words` run a container."""
    return name in CONTAINER_ENGINES and ("run" in words[1:12])


def image_at(words: tuple[str, ...]) -> tuple[int, int, Options]:
    """Where `run` and the image stand, and the options between. Raises TrustError."""
    top = read_options(words, 1, _GLOBAL_VALUED, _GLOBAL_FLAGS)
    at = top.rest
    if words[at : at + 1] == ("container",):
        at += 1
    if words[at : at + 1] != ("run",):
        raise TrustError("this container command is not `run`", next_step="only `run` can be read")
    options = read_options(words, at + 1, VALUED, FLAGS)
    options.unknown += top.unknown
    if options.rest >= len(words):
        raise TrustError("the launch line names no image", next_step="complete it")
    return at, options.rest, options


def container(words: tuple[str, ...]) -> LaunchLine:
    """The line of a container. Raises TrustError."""
    _, at, options = image_at(words)
    image, requested = split_image(words[at])
    environment: dict[str, str] = {}
    for pair in options.all("-e", "--env"):
        name, given, value = pair.partition("=")
        if given:
            environment[name] = value
    found = [LaunchNote("launch-unknown-option", visible(name, 40)) for name in options.unknown]
    if "@" not in words[at]:
        found.append(LaunchNote("launch-unpinned", visible(requested or "latest", 60)))
    found += _powers(options)
    found += assigned(environment)
    return LaunchLine(
        "oci",
        words,
        package=image,
        requested=requested,
        launcher=words[:at],
        arguments=words[at + 1 :],
        entry=options.last("--entrypoint"),
        program=program_name(words[0]),
        runtime="container",
        environment=environment,
        warnings=tuple(dict.fromkeys(found)),
    )


def split_image(word: str) -> tuple[str, str]:
    """Name and what was asked for of an image: its digest, else its tag, else ''."""
    name, at, digest = word.partition("@")
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        name = head
    else:
        tag = ""
    return name, digest if at else tag


def _powers(options: Options) -> list[LaunchNote]:
    found = []
    for name, value in options.found:
        powerful = (
            (name == "--privileged" and value.lower() != "false")
            or name in ("--cap-add", "--device", "--gpus", "--device-cgroup-rule", "--volumes-from", "--use-api-socket")
            or (name in _HOST_MODES and value.partition(":")[0] in ("host", "container"))
            or (name == "--security-opt" and "no-new-privileges" not in value)
        )
        if powerful:
            found.append(LaunchNote("launch-container-power", visible(f"{name} {value}".strip(), 80)))
        source = _mounted(name, value)
        if source and _sensitive(source):
            found.append(LaunchNote("launch-container-mount", visible(source, 80)))
    return found


def _mounted(name: str, value: str) -> str:
    """The place of this machine that an option mounts, or ''."""
    if name in ("-v", "--volume"):
        return value.partition(":")[0] if ":" in value else ""
    if name == "--mount":
        for part in value.split(","):
            key, _, source = part.partition("=")
            if key in ("source", "src"):
                return source
    return ""


def _sensitive(source: str) -> bool:
    place = source.rstrip("/") or "/"
    if place in _SENSITIVE or place in ("~", "$HOME", "${HOME}"):
        return True
    parts = place.split("/")
    return any(part in _SECRET_PLACES for part in parts) or (len(parts) == 3 and parts[1] in ("home", "Users"))

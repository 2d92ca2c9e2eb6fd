"""What `callgate sandbox` prints: lines of 80 columns for a person, records for a program."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from callgate.text import visible

if TYPE_CHECKING:
    from callgate.config import SecretConfig
    from callgate.sandbox.backend import Probe
    from callgate.sandbox.doctor import Report
    from callgate.sandbox.learn import Observation
    from callgate.sandbox.learn_proposal import Proposal
    from callgate.sandbox.spec import Limits, SandboxSpec

WIDTH = 80
_SHOWN = 12


def _wrapped(text: str, first: str, rest: str = "") -> Iterator[str]:
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest or " " * len(first), break_on_hyphens=False
    ) or [first.rstrip()]


def report_lines(report: Report, *, verbose: bool) -> Iterator[str]:
    """The doctor's report."""
    width = max(len(fact.name) for fact in report.facts)
    for fact in report.facts:
        text = fact.value + (f"  ({fact.note})" if fact.note else "")
        yield from _wrapped(visible(text, 300), f"{fact.name:<{width}}  ")
    yield ""
    for probe in report.probes:
        yield from _probe_lines(probe, chosen=probe.backend == report.automatic, verbose=verbose)
    if not report.automatic:
        yield "No sandbox holds on this machine: servers are not started."


def _probe_lines(probe: Probe, *, chosen: bool, verbose: bool) -> Iterator[str]:
    held = sum(check.held for check in probe.checks)
    title = f"{probe.backend} {visible(probe.version, 40)}".rstrip()
    if probe.usable:
        tried = f"{held} of {len(probe.checks)} escapes held" if len(probe.checks) > 1 else "its engine was asked"
        yield f"{title:<20} usable: {tried}{'; `auto` takes this one' if chosen else ''}"
    else:
        yield from _wrapped(f"not usable: {visible(probe.reason, 400)}", f"{title:<20} ", " " * 4)
    for check in probe.checks:
        if verbose or not check.held:
            mark = "held" if check.held else "OPEN"
            yield from _wrapped(f"{mark}  {check.name}  {visible(check.detail, 200)}".rstrip(), "    ", " " * 10)
    if probe.usable:
        for line in probe.not_enforced:
            yield from _wrapped(visible(line, 300), "    not enforced: ", " " * 6)


def report_record(report: Report) -> dict[str, Any]:
    """The same for a program."""
    return {
        "machine": [{"name": fact.name, "value": fact.value, "note": fact.note} for fact in report.facts],
        "automatic": report.automatic or None,
        "backends": [
            {
                "backend": one.backend,
                "usable": one.usable,
                "version": one.version,
                "reason": one.reason,
                "not_enforced": list(one.not_enforced),
                "checks": [{"name": c.name, "held": c.held, "detail": c.detail} for c in one.checks],
            }
            for one in report.probes
        ],
    }


def explain_lines(
    spec: SandboxSpec,
    argv: Sequence[str],
    secrets: Mapping[str, SecretConfig],
    missing: Sequence[str],
    notices: Sequence[str],
    apparmor: str = "",
) -> Iterator[str]:
    """What a server would get, and what of it is not enforced. `apparmor`: the profile it starts under."""
    yield from _wrapped(" ".join(visible(word, 200) for word in argv), "  runs      ")
    yield f"  in        {visible(spec.cwd or spec.home or 'its home', 300)}"
    yield f"  home      {visible(spec.home, 300) if spec.home else 'in memory'}"
    for verb, paths in (
        ("reads", [mount for mount in spec.mounts if not mount.writable]),
        ("writes", [mount for mount in spec.mounts if mount.writable]),
    ):
        label = verb
        for mount in paths:
            yield f"  {label:<8}  {visible(mount.source, 300)}"
            label = ""
    yield f"  {'reads' if not any(not m.writable for m in spec.mounts) else '':<8}  the system's programs and libraries"
    hosts = [f"{visible(one.host, 120)}:{one.port}" for one in spec.network]
    yield from _wrapped(", ".join(hosts) or "none", "  network   ")
    if spec.private.networks:
        inside = [f"{visible(one.host, 120)}:{one.port}" for one in spec.private.hosts]
        words = f"{', '.join(spec.private.networks)}, only as {', '.join(inside) or 'no name'}"
        yield from _wrapped(words, "  private   ")
    names = [visible(name, 80) for name in sorted(spec.environment)]
    yield from _wrapped(", ".join(names) or "none", "  variables ")
    for name in sorted(secrets):
        yield from _wrapped(f"{visible(name, 80)} from {visible(secrets[name].ref, 200)}", "  secret    ")
    yield from _wrapped(_limit_words(spec.limits), "  limits    ")
    if apparmor:
        yield f"  apparmor  {visible(apparmor, 200)}"
    for notice in notices:
        yield from _wrapped(visible(notice, 300), "  note: ", " " * 4)
    for line in missing:
        yield from _wrapped(visible(line, 300), "  not enforced: ", " " * 4)


def _limit_words(limits: Limits) -> str:
    mib = 1024 * 1024
    pairs = (
        (limits.processes, f"{limits.processes} processes"),
        (limits.memory_bytes, f"{limits.memory_bytes // mib} MiB of memory"),
        (limits.cpus, f"{limits.cpus:g} processors"),
        (limits.file_bytes, f"files of {limits.file_bytes // mib} MiB"),
        (limits.disk_bytes, f"{limits.disk_bytes // mib} MiB of its own"),
        (limits.descriptors, f"{limits.descriptors} open files"),
    )
    return ", ".join(words for value, words in pairs if value) or "none"


def explain_record(
    spec: SandboxSpec,
    argv: Sequence[str],
    backend: str,
    missing: Sequence[str],
    refusal: str,
    secrets: Mapping[str, SecretConfig],
    apparmor: str = "",
) -> dict[str, Any]:
    """The same for a program; names of variables only."""
    limits = spec.limits
    return {
        "server": spec.name,
        "kind": spec.kind,
        "argv": list(argv),
        "backend": backend,
        "starts": not refusal,
        "refusal": refusal,
        "cwd": spec.cwd,
        "home": spec.home,
        "mounts": [{"source": m.source, "target": m.target or m.source, "writable": m.writable} for m in spec.mounts],
        "network": [f"{one.host}:{one.port}" for one in spec.network],
        "private_networks": list(spec.private.networks),
        "egress_proxy": f"{spec.egress_proxy.host}:{spec.egress_proxy.port}" if spec.egress_proxy else None,
        "variables": sorted(spec.environment),
        "secrets": {name: secrets[name].ref for name in sorted(secrets)},
        "limits": {
            "processes": limits.processes,
            "memory_bytes": limits.memory_bytes,
            "cpus": limits.cpus,
            "file_bytes": limits.file_bytes,
            "disk_bytes": limits.disk_bytes,
            "descriptors": limits.descriptors,
        },
        "apparmor": apparmor or None,
        "not_enforced": list(missing),
    }


def learn_lines(seen: Observation, argv: Sequence[str], changes: Sequence[str]) -> Iterator[str]:
    """What was seen, and what is proposed."""
    where = f"in {seen.backend}" if seen.confined else "WITHOUT a sandbox"
    said = f"listed {_count(seen.tools, 'tool')}" if seen.tools >= 0 else "did not list its tools"
    answer = f"answered initialize and {said}" if seen.answered else "did not answer initialize"
    yield from _wrapped(f"{visible(argv[0], 200)} ran {where} for {seen.seconds:.1f} s; it {answer}.", "")
    trace = seen.trace
    if trace is None:
        yield "Which files it asked for was not seen: strace is missing, or the"
        yield "sandbox is a container. What the egress gate refused was."
    else:
        started = _count(len(trace.started), "program")
        yield f"It read {_count(len(trace.read), 'file')}, wrote {len(trace.written)}, started {started}."
        refused = sorted(trace.refused_read | trace.refused_write)
        if refused:
            yield "Refused:"
        for path in refused[:_SHOWN]:
            yield f"  {visible(path, 300)}"
        if len(refused) > _SHOWN:
            yield f"  and {len(refused) - _SHOWN} more"
    for host, port in sorted(seen.asked):
        yield f"Asked for {visible(host, 200)}:{port}"
    yield ""
    if not changes:
        yield "Today's settings are the least it needs, as far as this run shows."
        return
    yield "The least settings for what was seen, against today's (nothing is changed):"
    yield ""
    for line in changes[2:] if changes[0].startswith("---") else changes:
        if not line.startswith("@@"):
            yield visible(line, 400)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def learn_record(seen: Observation, proposal: Proposal, table: str) -> dict[str, Any]:
    """The same for a program."""
    trace = seen.trace
    record: dict[str, Any] = {
        "backend": seen.backend,
        "confined": seen.confined,
        "answered": seen.answered,
        "tools": seen.tools if seen.tools >= 0 else None,
        "seconds": round(seen.seconds, 2),
        "asked": [f"{host}:{port}" for host, port in sorted(seen.asked)],
        "proposal": table,
        "doubts": list(proposal.doubts),
    }
    if trace is not None:
        record["files"] = {
            "read": sorted(trace.read),
            "written": sorted(trace.written),
            "started": sorted(trace.started),
            "refused_read": sorted(trace.refused_read),
            "refused_write": sorted(trace.refused_write),
            "peers": sorted(trace.peers),
        }
    return record

"""Results as JSON lines: what was run under which conditions, one record a measurement."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Sample: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Results:
    """All samples by series and subject, plus the conditions they were taken under."""

    conditions: dict[str, Any] = field(default_factory=dict)
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, series: str, subject: str, sample: Sample) -> None:
        """Keep a sample; a failed one only as the reason."""
        if sample.get("ok"):
            self.samples.setdefault((series, subject), []).append(sample)
        else:
            self.failures[(series, subject)] = str(sample.get("error", "failed"))

    def values(self, series: str, subject: str, metric: str) -> list[float]:
        """One number a round."""
        return [float(sample[metric]) for sample in self.samples.get((series, subject), []) if metric in sample]

    def median(self, series: str, subject: str, metric: str) -> float | None:
        """The median over the rounds; None when it was not measured."""
        values = self.values(series, subject, metric)
        return statistics.median(values) if values else None

    def added(self, series: str, subject: str, metric: str = "p50") -> float | None:
        """How much more than the direct connection: the median over the rounds of each."""
        with_gateway, direct = self.median(series, subject, metric), self.median(series, "direct", metric)
        return None if with_gateway is None or direct is None else with_gateway - direct

    def subjects(self, series: str) -> list[str]:
        """The subjects of a series, in the order they were measured."""
        return [subject for name, subject in self.samples if name == series]


class Log:
    """The file that a run appends to, and the same results in memory."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w")
        self.results = Results()

    def conditions(self, conditions: dict[str, Any]) -> None:
        """Say what the run was; first in the file."""
        self.results.conditions = conditions
        self._write({"kind": "conditions", **conditions})

    def absent(self, subject: str, why: str) -> None:
        """A subject that could not be measured."""
        self.results.absent[subject] = why
        self._write({"kind": "absent", "subject": subject, "why": why})

    def sample(self, series: str, subject: str, round_number: int, sample: Sample) -> None:
        """One measurement."""
        self.results.add(series, subject, sample)
        self._write({"kind": "sample", "series": series, "subject": subject, "round": round_number, "sample": sample})

    def close(self) -> None:
        """Close the file; the results stay in memory."""
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()


def load(paths: Iterable[Path]) -> Results:
    """Read runs back; a later file adds to an earlier one and its conditions win."""
    results = Results()
    for path in paths:
        for line in path.read_text().splitlines():
            record = json.loads(line)
            kind = record.pop("kind")
            if kind == "conditions":
                results.conditions = record
            elif kind == "absent":
                results.absent[record["subject"]] = record["why"]
            else:
                results.add(record["series"], record["subject"], record["sample"])
    return results

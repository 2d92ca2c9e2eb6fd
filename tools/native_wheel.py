"""Hatch's build hook: a wheel that holds the native lane is for this platform, one that does not is for all."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LANE = "src/callgate/_core.abi3.so"


class NativeWheel(BuildHookInterface[Any]):
    """Tags the wheel for the stable interface of CPython 3.11 and this platform, where tools/build-native has run."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the files are collected; an editable install finds the lane by itself."""
        if version == "editable" or not (Path(self.root) / LANE).exists():
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"
        build_data["force_include"][LANE] = "callgate/_core.abi3.so"

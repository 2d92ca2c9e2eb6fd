"""All runtime controls, in the order in which they are asked. An explicit list: nothing is found by itself.

A duplicate id, an incomplete declaration or a control without factory raises at import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias, cast

from callgate.config import Config, ControlConfig
from callgate.controls import (
    LAUNCH_CONTROLS,
    definition_pins,
    hidden_characters,
    message_limits,
    secret_redaction,
    terminal_escapes,
)
from callgate.errors import ConfigError
from callgate.gate.control import Control, ControlMeta, ControlOptions

Factory: TypeAlias = Callable[[ControlOptions, Path], Control]


def _definition_pins(options: ControlOptions, state: Path) -> Control:
    return cast("Control", definition_pins.DefinitionPins(options, state))


_CONTROLS: tuple[tuple[ControlMeta, Factory], ...] = (
    (message_limits.META, lambda options, _state: message_limits.build(options)),
    (hidden_characters.META, lambda options, _state: hidden_characters.build(options)),
    (terminal_escapes.META, lambda options, _state: terminal_escapes.build(options)),
    (secret_redaction.META, lambda options, _state: secret_redaction.build(options)),
    (definition_pins.META, _definition_pins),
)


def checked(controls: Iterable[tuple[ControlMeta, Factory]]) -> Mapping[str, tuple[ControlMeta, Factory]]:
    """The controls by id. Raises ValueError for a duplicate or an incomplete declaration."""
    table: dict[str, tuple[ControlMeta, Factory]] = {}
    for meta, factory in controls:
        if meta.id in table:
            raise ValueError(f"control {meta.id} is registered twice")
        if not (meta.id and meta.title and meta.risks and meta.since and callable(factory)):
            raise ValueError(f"control {meta.id or '(no id)'} is declared incompletely")
        if "launch" in meta.always and meta.id not in LAUNCH_CONTROLS:
            raise ValueError(f"control {meta.id} has a launch hook but is not in LAUNCH_CONTROLS")
        table[meta.id] = (meta, factory)
    return table


REGISTRY = checked(_CONTROLS)
METAS: tuple[ControlMeta, ...] = tuple(meta for meta, _ in REGISTRY.values())


def build_controls(config: Config, state: Path) -> tuple[Control, ...]:
    """The controls that `config` wants, in order; without those whose mode is `off` or that have nothing to do.

    `state` is the state directory. Raises ConfigError for an unknown control or option.
    """
    for name in config.controls:
        if name not in REGISTRY:
            known = ", ".join(REGISTRY)
            raise ConfigError(f"controls.{name}: no such control", next_step=f"known controls: {known}")
    if name := _limits_mode(config):
        raise ConfigError(
            f"controls.{name}.mode: cannot be set; the strict parser follows the mode of the gate and the server",
            next_step="raise a limit under [limits], or set mode for the server",
        )
    built: list[Control] = []
    default = ControlConfig()
    for name, (_, factory) in REGISTRY.items():
        chosen = config.controls.get(name, default)
        control = factory(chosen.options, state) if chosen.mode != "off" else None
        if control is not None and _NEEDED.get(name, _always)(config):
            built.append(control)
    return tuple(built)


def _always(_config: Config) -> bool:
    return True


_NEEDED: Mapping[str, Callable[[Config], bool]] = {secret_redaction.META.id: secret_redaction.needed}
"""Controls that are left out where they would have nothing to do, so that no message pays for them."""


def _limits_mode(config: Config) -> str:
    entry = config.controls.get(message_limits.META.id)
    return message_limits.META.id if entry is not None and entry.mode is not None else ""

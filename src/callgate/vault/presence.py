"""Whether a launch has anything to do with secrets: all that a server without them pays for, in a fraction of a ms."""

from __future__ import annotations

from callgate.vault.known_tokens import prefix_of
from callgate.vault.reference import is_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from callgate.config import SecretConfig


def has_secrets(environment: Mapping[str, str], declared: Mapping[str, SecretConfig]) -> bool:
    """Whether anything has to be resolved: a session is needed only then."""
    return bool(declared) or any(map(is_reference, environment.values()))


def has_credentials(environment: Mapping[str, str], declared: Mapping[str, SecretConfig]) -> bool:
    """Whether there is anything to resolve, or a credential in plain text to hide. False: no need for `delivery`."""
    return has_secrets(environment, declared) or any(map(prefix_of, environment.values()))

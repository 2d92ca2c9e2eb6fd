"""`awssm://name#key`: AWS Secrets Manager, with the settings every AWS tool uses (AWS_PROFILE, AWS_REGION, roles …)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar

from callgate.errors import SecretError
from callgate.vault.deadline import NETWORK_S, within
from callgate.vault.fields import NothingStored
from callgate.vault.providers.base import Document, load
from callgate.vault.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_RECOVERY_DAYS: Final = 7
_HINTS: Final = {
    "ResourceNotFoundException": "check the name, the stage or version, and the region (AWS_REGION)",
    "AccessDeniedException": "allow secretsmanager:GetSecretValue (and kms:Decrypt) for this role",
    "DecryptionFailure": "allow kms:Decrypt with the secret's key for this role",
    "InvalidRequestException": "the secret may be marked for deletion: aws secretsmanager restore-secret",
    "ExpiredTokenException": "sign in again (aws sso login), then try again",
    "UnrecognizedClientException": "these credentials are not known to AWS: sign in again",
    "InvalidSignatureException": "these credentials are not right, or the clock is wrong",
    "NoCredentialsError": "sign in (aws sso login), or name a profile in AWS_PROFILE",
    "NoRegionError": "name the region in AWS_REGION",
    "ProfileNotFound": "check AWS_PROFILE",
    "EndpointConnectionError": "check the network, the region and AWS_ENDPOINT_URL",
    "SSLError": "name the right certificate authority in AWS_CA_BUNDLE",
}


class AwsProvider:
    """See the module."""

    def __init__(self) -> None:
        self._client: Any = None

    def read(self, reference: Reference) -> Document:
        """The current version, or the one the reference names."""
        asked = {"SecretId": reference.path}
        if "version" in reference.options:
            asked["VersionId"] = reference.options["version"]
        else:
            asked["VersionStage"] = reference.options.get("stage", "AWSCURRENT")
        answer = self._call(reference, lambda client: client.get_secret_value(**asked))
        text = answer.get("SecretString")
        return Document(text.encode() if isinstance(text, str) else bytes(answer.get("SecretBinary") or b""))

    def write(self, reference: Reference, value: bytes) -> None:
        """Create the secret, or give it a new current version; one that waits for its deletion is restored."""
        if reference.key or reference.options:
            raise SecretError(f"{reference.text} names a part of a secret", next_step="write without # and ?")
        name = reference.path
        content: dict[str, object] = {"SecretBinary": value}
        try:
            content = {"SecretString": value.decode()}
        except UnicodeDecodeError:
            pass

        def put(client: Any) -> None:
            try:
                state = client.describe_secret(SecretId=name)
            except client.exceptions.ResourceNotFoundException:
                client.create_secret(Name=name, Description="kept for an MCP server by callgate", **content)
                return
            if state.get("DeletedDate"):
                client.restore_secret(SecretId=name)
            client.put_secret_value(SecretId=name, **content)

        self._call(reference, put)

    def remove(self, reference: Reference) -> bool:
        """Mark for deletion: AWS keeps it for 7 more days, in which `write` or restore-secret brings it back."""

        def delete(client: Any) -> bool:
            try:
                if client.describe_secret(SecretId=reference.path).get("DeletedDate"):
                    return False
                client.delete_secret(SecretId=reference.path, RecoveryWindowInDays=_RECOVERY_DAYS)
            except client.exceptions.ResourceNotFoundException:
                return False
            return True

        return self._call(reference, delete)

    def close(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _call(self, reference: Reference, work: Callable[[Any], _T]) -> _T:
        def run() -> _T:
            if self._client is None:
                self._client = _connect()
            return work(self._client)

        return within(NETWORK_S, f"AWS ({reference.text})", run, lambda error: _problem(reference, error))


def _connect() -> Any:
    boto3 = load("boto3", "aws")
    logging.getLogger("botocore").setLevel(logging.INFO)  # at DEBUG it would log answers, secrets and all
    limits = load("botocore.config", "aws").Config(
        connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"}
    )
    return boto3.session.Session().client("secretsmanager", config=limits)


def _problem(reference: Reference, error: Exception) -> SecretError:
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    kind = code if code in _HINTS else type(error).__name__
    next_step = _HINTS.get(kind, "try the same by hand: aws secretsmanager get-secret-value")
    deleted = kind == "InvalidRequestException" and "delet" in str(error)
    error_type = NothingStored if deleted or kind == "ResourceNotFoundException" else SecretError
    return error_type(f"{reference.text}: AWS Secrets Manager refused or was not reached ({kind})", next_step=next_step)

from __future__ import annotations

import pytest

from callgate.protocol import methods as method_tables
from callgate.protocol import revisions
from callgate.protocol.revisions import REVISIONS, Era, Feature
from tests.protocol.schema_oracle import methods, needs_schemas


def test_five_revisions_oldest_first():
    assert list(REVISIONS) == ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]
    assert {"2026-07-28"} == revisions.MODERN_VERSIONS
    assert set(REVISIONS) == revisions.HANDSHAKE_VERSIONS | revisions.MODERN_VERSIONS
    assert revisions.LATEST == "2026-07-28"


def test_the_sdk_knows_the_same_revisions():
    from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

    assert set(HANDSHAKE_PROTOCOL_VERSIONS) == revisions.HANDSHAKE_VERSIONS
    assert set(MODERN_PROTOCOL_VERSIONS) == revisions.MODERN_VERSIONS


def test_the_sdk_uses_the_same_meta_members():
    import mcp_types

    assert method_tables.META_VERSION == mcp_types.PROTOCOL_VERSION_META_KEY
    assert revisions.META_CLIENT_INFO == mcp_types.CLIENT_INFO_META_KEY
    assert revisions.META_CLIENT_CAPABILITIES == mcp_types.CLIENT_CAPABILITIES_META_KEY


@needs_schemas
@pytest.mark.parametrize("version", list(REVISIONS))
@pytest.mark.parametrize(
    ("union", "member"),
    [
        ("ClientRequest", "client_requests"),
        ("ClientNotification", "client_notifications"),
        ("ServerRequest", "server_requests"),
        ("ServerNotification", "server_notifications"),
    ],
)
def test_the_method_tables_are_those_of_the_schemas(version, union, member):
    expected = methods(version, union)
    if union == "ClientNotification" and version == "2026-07-28":
        expected = {"notifications/cancelled"}  # not a union there
    assert getattr(REVISIONS[version], member) == expected


def test_batches_exist_in_one_revision_only():
    assert [version for version in REVISIONS if revisions.allows_batch(version)] == ["2025-03-26"]
    assert not revisions.allows_batch("")
    assert not revisions.allows_batch("1999-01-01")


@pytest.mark.parametrize(
    ("feature", "versions"),
    [
        (Feature.SSE_ENDPOINT, ["2024-11-05"]),
        (Feature.STREAMABLE_HTTP, ["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]),
        (Feature.SESSION, ["2025-03-26", "2025-06-18", "2025-11-25"]),
        (Feature.VERSION_HEADER, ["2025-06-18", "2025-11-25", "2026-07-28"]),
        (Feature.MIRRORED_HEADERS, ["2026-07-28"]),
        (Feature.SERVER_REQUESTS, ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]),
        (Feature.STRUCTURED_CONTENT, ["2025-06-18", "2025-11-25", "2026-07-28"]),
        (Feature.TASKS, ["2025-11-25"]),
        (Feature.INPUT_REQUIRED, ["2026-07-28"]),
        (Feature.CANCEL_ON_DISCONNECT, ["2026-07-28"]),
    ],
)
def test_features_by_revision(feature, versions):
    assert [version for version in REVISIONS if revisions.has(version, feature)] == versions


def test_only_handshake_revisions_have_server_requests_and_initialize():
    for revision in REVISIONS.values():
        handshake = revision.era is Era.HANDSHAKE
        assert ("initialize" in revision.client_requests) is handshake
        assert bool(revision.server_requests) is handshake


@pytest.mark.parametrize(
    ("body", "version"),
    [
        ({"method": "ping"}, None),
        ({"method": "ping", "params": {}}, None),
        ({"method": "ping", "params": {"_meta": {}}}, None),
        ({"method": "ping", "params": {"_meta": []}}, None),
        ({"method": "ping", "params": []}, None),
        ({"method": "ping", "params": {"_meta": {method_tables.META_VERSION: "2026-07-28"}}}, "2026-07-28"),
        ({"method": "ping", "params": {"_meta": {method_tables.META_VERSION: 5}}}, 5),
    ],
)
def test_the_era_is_read_from_the_body(body, version):
    assert revisions.modern_version(body) == version


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("tools/call", {"name": "add"}, "add"),
        ("prompts/get", {"name": "p"}, "p"),
        ("resources/read", {"uri": "file:///x"}, "file:///x"),
        ("resources/subscribe", {"uri": "file:///x"}, "file:///x"),
        ("tasks/get", {"taskId": "t"}, "t"),
        ("tasks/result", {"taskId": "t"}, "t"),
        ("tools/list", {"name": "add"}, ""),
        ("tools/call", {"name": 5}, ""),
        ("tools/call", {}, ""),
        ("tools/call", None, ""),
    ],
)
def test_the_name_a_request_is_about(method, params, name):
    assert revisions.name_of(method, params) == name

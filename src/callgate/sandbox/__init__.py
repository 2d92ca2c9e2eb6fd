"""The sandbox: one `SandboxSpec`, and backends that prove themselves before they are trusted with a server."""

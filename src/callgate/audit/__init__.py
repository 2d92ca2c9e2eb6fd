"""The evidence log: an append-only, hash-chained record of every decision, verifiable offline.

    journal = open_journal(state_dir, config.audit, process="run")
    scope = journal.scope(server="files", principal="local", transport="stdio")
    seq = scope.decision(hook, direction, method, name, request_id, data, content, outcome, findings, about, took_us)
    journal.note("reload", {"source": "callgate.toml"})
    journal.tick(), journal.checkpoint(), journal.close()

`records` documents the format, `chain` the rules it obeys, `writer` and `scope` write it, `verify` checks
it, `reader` reads it, `live` prints it, `ocsf` and `otel` translate it.
"""

from callgate.audit.scope import Scope
from callgate.audit.writer import Journal, open_journal

__all__ = ["Journal", "Scope", "open_journal"]

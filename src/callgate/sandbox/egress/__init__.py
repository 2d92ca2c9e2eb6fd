"""The egress gate: the one way out of a sandbox, by name, seen and recorded. See docs/egress.md.

    launch side (imports next to nothing)      the gate's own process (started by the first connection)
    gate.EgressGate    what backends call      process     from settings to listeners
    attach             listeners in a sandbox  connection  one connection: what was meant, may it be
    authority.issue    the session's CA        plain, relay  TLS or bytes that pass, HTTP that is read
    trust_store        the system's CAs        swap        sentinel to secret, and back
    settings           what crosses between    report      events

No process of ours runs inside the sandbox: the listening sockets were made in its network namespace and handed out.
"""

"""The egress gate: the one way out of a sandbox, by name, seen and recorded. See docs/egress.md.

    launch side (imports next to nothing)      the gate's own process (started by the first connection)
    gate.EgressGate    what backends call      process     from settings to listeners
    wanted             the specification       connection  one connection: what was meant, may it be
    attach             listeners in a sandbox  peek, hello its first bytes
    authority          the session's CA        dial        names to addresses that may be reached
    trust_store        the system's CAs        splice      bytes that pass; http_relay: HTTP that is read
    settings, told     what crosses between    swap        sentinel to secret, and back

No process of ours runs inside the sandbox: the listening sockets were made in its network namespace and handed out.
"""

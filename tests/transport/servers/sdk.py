"""A server written with the official SDK: `python sdk.py stdio`, or `python sdk.py sse|streamable-http PORT`."""

import sys

from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

server = MCPServer("sdk", version="1.2.3", instructions="Adds numbers.")


class Name(BaseModel):
    name: str


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Counts, with progress."""
    for step in range(to):
        await ctx.report_progress(step + 1, to, f"step {step + 1}")
    return f"counted to {to}"


@server.tool()
async def greet(ctx: Context) -> str:
    """Asks for a name (handshake era)."""
    answer = await ctx.elicit("Who are you?", Name)
    return f"hello {answer.data.name}" if answer.action == "accept" else "hello stranger"


@server.resource("data://big")
def big() -> str:
    """Half a megabyte."""
    return "x" * 500_000


@server.prompt()
def summary(topic: str) -> str:
    """A prompt."""
    return f"Summarise {topic}"


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run(sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]))

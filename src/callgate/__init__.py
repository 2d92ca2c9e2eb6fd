"""callgate: the checked entry between an AI agent and the MCP servers it uses."""

__version__ = "0.1.0"

"""Secrets: references instead of values, and how a value reaches a server that may not keep it."""

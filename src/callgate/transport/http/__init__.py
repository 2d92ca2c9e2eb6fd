"""HTTP on both sides: the server half of `callgate serve` and the keep-alive client to upstreams."""

"""The supply chain: which artefact a launch line means, its digests, signatures and provenance, and `callgate.lock`."""

"""The launch boundary: the pinned artefact, in a proven sandbox, with the secrets it may have and no others."""

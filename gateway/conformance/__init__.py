"""Whether a registry, seen from outside, does what docs/protocol.md says."""

"""Packets in a key-value bucket of NATS JetStream."""

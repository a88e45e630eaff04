"""Packets in Redis, by sorted sets."""

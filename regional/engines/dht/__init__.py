"""Packets in a DHT: items and signed pages, which the owner republishes."""

"""Packets in LMDB on this machine."""

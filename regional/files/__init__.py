"""Packets from files."""

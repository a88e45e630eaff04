"""Packets as ordered keys of etcd."""

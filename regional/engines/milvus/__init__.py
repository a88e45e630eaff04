"""Packets in Milvus, which searches itself."""

"""Whom a gateway asks: the servers themselves, a recursive resolver, or transferred copies; validated or not."""

"""A network kept elsewhere, or by several: while it serves."""

"""One node's current episode: its octets, many of them as columns, and which are taken."""

"""Where a network keeps its packets; each engine speaks the protocol of `regional.engine`."""

"""Regions, cells and the tree: bounds on where packets may lie. Pure."""

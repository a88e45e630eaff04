"""The tree as zones: names, records, versions and the steps between them. Pure."""

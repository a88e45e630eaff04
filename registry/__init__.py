"""What is alike, and who covers it: schemas, fingerprints, regions, the tree, zones, the name server."""

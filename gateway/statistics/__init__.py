"""What the outcomes say. Pure."""

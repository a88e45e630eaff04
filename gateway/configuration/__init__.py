"""The federation file, section by section."""

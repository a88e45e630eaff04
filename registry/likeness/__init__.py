"""What experts write of a domain, and the fingerprint that follows from it: what is alike."""

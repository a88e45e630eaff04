"""Messages of the DNS, and how they travel."""

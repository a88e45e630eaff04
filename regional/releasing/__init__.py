"""What a network of people releases instead of packets: atoms, by epochs."""

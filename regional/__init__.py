"""What happened: packets, engines, the network service and its client, the advertiser."""

"""What touches the network and the clock: cells, answers, pages and tables of networks."""

"""What the store sells: strategies, and the plans they are sold in."""

"""The topics of this system: which there are, that they are its own and of the right shape, their making."""

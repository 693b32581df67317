"""Addresses: ports of this machine, what is on it, and paths of the API."""

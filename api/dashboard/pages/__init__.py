"""One file a page: what it is loaded from."""

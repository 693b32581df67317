"""Callbacks over HTTP: where they may go, and how they are signed; pure."""

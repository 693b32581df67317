"""Pauses, limits, cancels and workers over HTTP: routes, answers, and pages of the dashboard."""

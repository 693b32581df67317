"""Totals, windows and the audit over HTTP: routes, answers, and pages of the dashboard."""

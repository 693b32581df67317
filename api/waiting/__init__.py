"""Waiting tasks over HTTP: routes, answers, and their page of the dashboard."""

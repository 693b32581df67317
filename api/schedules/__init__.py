"""Schedules over HTTP: routes, answers, and the page of the dashboard."""

"""Dead letters over HTTP: routes, answers, and pages of the dashboard."""

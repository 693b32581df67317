"""The dashboard in a real browser: a package, so that its tests share one running system, which ends with them."""

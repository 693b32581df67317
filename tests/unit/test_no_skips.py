"""In CI no test is skipped; elsewhere one may be."""

import pytest
from no_skips import checked


def report_of(outcome: str) -> pytest.TestReport:
    """Return the report of a test, as pytest makes it."""
    reason = ("test_x.py", 7, "Skipped: no browser") if outcome == "skipped" else None
    return pytest.TestReport("test_x.py::test", ("test_x.py", 7, "test"), {}, outcome, reason, "setup")


def test_skipped_test_fails_in_ci_and_says_what_is_missing():
    """Whatever skipped it, a mark or a fixture."""
    report = checked(report_of("skipped"), is_ci=True)
    assert report.failed
    assert "Skipped: no browser" in report.longreprtext


@pytest.mark.parametrize(("outcome", "is_ci"), [("skipped", False), ("passed", True), ("failed", True)])
def test_all_other_reports_stay_as_they_are(outcome, is_ci):
    """Skipped on a developer's machine, passed, or failed for a reason of its own."""
    assert outcome == checked(report_of(outcome), is_ci=is_ci).outcome

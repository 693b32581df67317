"""A person submits, follows, pauses and redrives: in a real browser on a real system."""

from __future__ import annotations

import re

from playwright.sync_api import expect

_MARK = "window.mark = 1"
"""A page that was loaded anew has none."""


def test_object_is_submitted_and_followed_to_its_end(system, visit, visitor):
    """Form, page, PROCESSING, then FINISHED with bars and events, without loading the page again."""
    page = visit("/submit")
    page.get_by_label("Name").fill("followed")
    page.get_by_label("Kind").fill("gated")
    page.get_by_label("Tasks").fill("4")
    page.get_by_label("Content", exact=True).fill("<script>window.evil = 1</script>")
    visitor.shoot(page, "form")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("followed")
    expect(page.get_by_text("The object is accepted.")).to_be_visible()
    expect(page.locator("#object-state")).to_have_text("PROCESSING")
    expect(page.get_by_role("img", name="0 of 4 tasks done, 4 in progress")).to_be_visible()
    page.evaluate(_MARK)
    visitor.shoot(page, "at-work")
    system.open_gate("followed")
    expect(page.locator("#object-state")).to_have_text("FINISHED")
    expect(page.get_by_role("img", name="4 of 4 tasks done")).to_be_visible()
    expect(page.locator("#event-rows")).to_contain_text("TASK_FINISHED")
    expect(page.locator("#event-rows tr")).to_have_count(10)
    expect(page.get_by_role("button", name="Cancel this object")).to_have_count(0)
    assert (1, None) == (page.evaluate("window.mark"), page.evaluate("window.evil ?? null"))
    visitor.shoot(page, "finished")


def test_object_is_cancelled_after_a_question(system, visit):
    """Its page ends as CANCELLED; who says no to the question changes nothing."""
    object_id = system.submit(name="cancelled", kind="gated", tasks=2)
    page = visit(f"/objects/{object_id}")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Cancel this object").click()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_label("Reason for the cancel").fill("a mistake")
    page.get_by_role("button", name="Cancel this object").click()
    expect(page.locator("#object-state")).to_have_text("CANCELLED")


def test_lists_and_totals_move_by_themselves(system, visit, visitor):
    """What others submit shows up in an open list and in the totals; what is typed meanwhile stays."""
    overview, listed = visit("/"), visit("/objects")
    listed.get_by_label("Kind").fill("half typed")
    object_id = system.submit(name="from elsewhere", kind="default", tasks=3)
    expect(listed.locator(f"#o-{object_id}")).to_contain_text("FINISHED")
    expect(listed.get_by_label("Kind")).to_have_value("half typed")
    expect(overview.locator("#throughput svg .finished-part").first).to_be_attached()
    expect(overview.locator("#law")).to_contain_text("every task is in exactly one state")
    visitor.shoot(overview, "overview")


def test_pause_and_resume(system, visit, visitor):
    """Paused by the form, seen on the overview, waited for by an object, resumed by the button."""
    page = visit("/control")
    page.locator("#pause").get_by_label("Kind").fill("held")
    page.locator("#pause").get_by_label("Why").fill("maintenance <b>window</b>")
    page.locator("#pause").get_by_role("button", name="Pause").click()
    expect(page.locator("#in-force")).to_contain_text("held paused")
    expect(page.locator("#in-force")).to_contain_text("maintenance <b>window</b>")
    object_id = system.submit(name="waits", kind="held", tasks=1)
    overview = visit("/")
    expect(overview.locator("#paused")).to_contain_text("held")
    waiting = visit(f"/objects/{object_id}")
    expect(waiting.locator("#object-state")).to_have_text("DISTRIBUTED")
    visitor.shoot(page, "control")
    visitor.shoot(overview, "overview")
    page.get_by_role("button", name="Resume held").click()
    expect(page.get_by_text("Resumed: tasks of kind held start again.")).to_be_visible()
    expect(waiting.locator("#object-state")).to_have_text("FINISHED")
    expect(overview.locator("#paused")).to_have_count(0)


def test_dead_letter_is_looked_at_and_redriven(system, visit, visitor):
    """From the overview's count to the group, the letter, its redrive, and the object that finishes."""
    object_id = system.submit(name="letter one", kind="letter", tasks=1)
    system.reaches(object_id, "FAILED")
    page = visit("/dead-letters")
    expect(page.locator("#groups")).to_contain_text("no template <letter one>")
    visitor.shoot(page, "groups")
    page.goto("/dead-letters?error=letter+one")
    page.locator("#letters a").first.click()
    expect(page.locator("#letter")).to_contain_text("DEAD")
    expect(page.locator("#stack-trace")).to_contain_text("Reject")
    visitor.shoot(page, "letter")
    system.open_gate("letter one")
    page.get_by_role("button", name="Redrive unchanged").click()
    expect(page.locator("#letter")).to_contain_text("REDRIVEN")
    expect(page.get_by_role("button", name="Redrive unchanged")).to_have_count(0)
    page.locator("#letter").get_by_role("link", name=f"{object_id}-0").click()
    expect(page.locator("#task-state")).to_have_text("FINISHED")
    expect(page.locator("#a-1-1")).to_contain_text("redrive 1")
    expect(page.locator("#attempts")).to_contain_text("Reject: no template <letter one>")
    page.locator("#a-0-1").get_by_text("Stack trace").click()
    expect(page.locator("#a-0-1 pre")).to_contain_text("Traceback (most recent call last)")
    expect(page.locator("#letters")).to_contain_text("REDRIVEN")
    visitor.shoot(page, "task")
    page.get_by_role("link", name="its object").click()
    expect(page.locator("#object-state")).to_have_text("FINISHED")
    page.locator("#t-0").get_by_role("link", name="0").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Task 0")


def test_dead_letter_is_mended_and_redriven(system, visit, visitor):
    """An edit that is no JSON is said and kept; the mended one goes its way."""
    visitor.expected_errors = ("422",)
    object_id = system.submit(name="letter two", kind="letter", tasks=1)
    system.reaches(object_id, "FAILED")
    system.open_gate("mended")
    page = visit("/dead-letters?error=letter+two")
    page.locator("#letters a").first.click()
    page.get_by_text("Edit it first").click()
    page.get_by_label("as JSON").fill('{"name": "mended"')
    page.get_by_role("button", name="Redrive edited").click()
    expect(page.get_by_role("alert")).to_contain_text("The payload is not JSON")
    page.get_by_label("as JSON").fill('{"name": "mended"}')
    page.get_by_role("button", name="Redrive edited").click()
    system.reaches(object_id, "FINISHED")


def test_group_is_redriven_at_once(system, visit):
    """All of a group by one button, and its progress on the page."""
    ids = [system.submit(name="letter three", kind="letter", tasks=2) for _ in range(3)]
    for object_id in ids:
        system.reaches(object_id, "FAILED")
    system.open_gate("letter three")
    page = visit("/dead-letters?error=letter+three")
    group = page.locator("#groups tbody tr").first
    group.get_by_text("Redrive 6").click()
    group.get_by_role("button", name="Redrive all 6").click()
    for object_id in ids:
        system.reaches(object_id, "FINISHED")
    expect(page.get_by_text("6 redriven")).to_be_visible()


def test_worker_is_drained_and_let_work_again(visit, visitor):
    """Its state follows on the page."""
    page = visit("/workers")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Drain processing").click()
    row = page.locator("tr[id^=worker-processing]")
    expect(row).to_contain_text("drained")
    visitor.shoot(page)
    row.get_by_role("button", name="Undo drain").click()
    expect(row).to_contain_text("ready")


def test_waiting_tasks_are_started_and_cancelled(system, visit, visitor):
    """One by its button, then all of a kind after a question; the filter stays, and the objects end."""
    single, *many = [system.submit(name="later", kind="later", tasks=1, delay_s=3_600) for _ in range(4)]
    gone = system.submit(name="never", kind="never", tasks=1, delay_s=3_600)
    page = visit("/waiting?kind=later")
    expect(page.locator("#waiting-delay-later")).to_contain_text("4")
    expect(page.locator("#tasks")).to_contain_text(f"{single}-0")
    expect(page.locator("#tasks")).not_to_contain_text(f"{gone}-0")
    expect(page.locator(f"#w-{single}-0")).to_contain_text("in 59 min")
    visitor.shoot(page, "waiting")
    waits = visit(f"/objects/{single}")
    expect(waits.locator("#t-0")).to_contain_text("delay: due in 59 min")
    page.get_by_role("button", name=f"Start now task {single}-0").click()
    expect(page.get_by_text("1 waiting task is started.")).to_be_visible()
    expect(waits.locator("#object-state")).to_have_text("FINISHED")
    expect(page).to_have_url(re.compile(r"/waiting\?kind=later$"))
    expect(page.locator("#waiting-delay-later")).to_contain_text("3")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Start all now").click()
    expect(page.get_by_text("3 waiting tasks are started.")).to_be_visible()
    expect(page.locator("#no-match")).to_be_visible()
    for one in many:
        system.reaches(one, "FINISHED")
    page.goto("/waiting?kind=never")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel all that are shown").click()
    expect(page.get_by_text("1 waiting task is being cancelled.")).to_be_visible()
    system.reaches(gone, "CANCELLED")

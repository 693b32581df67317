"""Pages on a phone and on a desk, in dark and in light, by keyboard alone, without JavaScript."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

PATHS = ("/", "/objects", "/statistics/windows", "/workers", "/waiting", "/dead-letters", "/control", "/submit")
PHONE = {"viewport": {"width": 375, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
DESK = {"viewport": {"width": 1280, "height": 800}}

# The contrast of each text with what is behind it (WCAG 2.2, 1.4.3): below 4.5 to 1 is told.
_PALE_TEXTS = """
() => {
  const channel = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((value) => value / 255);
  };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = rgba(getComputedStyle(one).backgroundColor);
      if (colour[3] > 0.99) return colour;
    }
    return [1, 1, 1, 1];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.nodeValue.trim() || !element.checkVisibility()) continue;
    if (element.closest("svg, script, .hidden")) continue;
    const style = getComputedStyle(element);
    const ground = behind(element);
    let ink = rgba(style.color);
    const solid = ink[3] * Number(style.opacity);
    ink = ink.map((value, index) => value * solid + ground[index] * (1 - solid));
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${element.className} ${walker.currentNode.nodeValue.trim()}`);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def some_work(system) -> str:
    """Let there be something to see: finished, at work, dead. Returns the id of the object that failed."""
    for number in range(12):
        system.submit(name=f"report {number}", kind="default", tasks=3 + number % 4)
    system.submit(name="never opened", kind="gated", tasks=3)
    letter = system.submit(name="a name that is rather long and would break a narrow page", kind="letter", tasks=1)
    system.reaches(letter, "FAILED")
    return letter


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [PHONE, DESK], ids=["phone", "desk"])
def test_pages_fit_and_can_be_read(visit, visitor, some_work, device, scheme):
    """On every page nothing sticks out sideways, texts have enough contrast, and what is pressed is large enough."""
    page = visit("/", color_scheme=scheme, **device)
    for path in (*PATHS, f"/objects/{some_work}", f"/objects/{some_work}/tasks/0"):
        page.goto(path)
        expect(page.locator("#connection")).to_have_text("Live")
        assert page.evaluate("document.documentElement.scrollWidth") <= device["viewport"]["width"], path
        assert [] == page.evaluate(_PALE_TEXTS), path
        pressed = page.locator("main button:visible, main input:visible, main select:visible")
        boxes = [pressed.nth(index).bounding_box() for index in range(pressed.count())]
        assert all(box["height"] >= 24 for box in boxes if box), path  # WCAG 2.2, 2.5.8
        visitor.shoot(page, path.strip("/").replace("/", "-").replace(some_work, "object") or "overview")


def test_keyboard_alone_is_enough(system, visit, visitor):
    """Skip link first, a focus that is seen, and an object submitted and cancelled without a pointer."""
    page = visit("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("main").get_by_role("link", name="Submit").first).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert "none" != outline
    visitor.shoot(page, "focus")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{system.api.url}/submit")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "name":
            break
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("by keyboard")


def test_focus_and_opened_parts_outlive_updates(system, visit):
    """An update every second neither takes the focus away nor closes what was opened."""
    object_id = system.submit(name="letter four", kind="letter", tasks=1)
    system.reaches(object_id, "FAILED")
    page = visit("/dead-letters?error=letter+four")
    page.get_by_text("Redrive 1").click()
    field = page.get_by_label("Maximum letters per second")
    field.fill("5")
    field.focus()
    before = page.locator("#groups time").first.inner_text()
    expect(page.locator("#groups time").first).not_to_have_text(before)
    expect(field).to_be_focused()
    expect(field).to_have_value("5")


_MORPHED = """async ([before, after]) => {
    const { morph } = await import("/static/morph.js");
    const [from, to] = [before, after].map((html) => Object.assign(document.createElement("div"), { innerHTML: html }));
    document.body.append(from);
    from.querySelector("input").focus();
    morph(from, to);
    const found = [document.activeElement.id, from.innerHTML];
    from.remove();
    return found;
}"""
_FIELD = '<p id="b"><input id="typed"></p>'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f'<p id="a">1</p>\n{_FIELD}', _FIELD),
        (f'\n<p id="a">1</p>\n \n{_FIELD}\n', f"\n{_FIELD}\n"),
        (f"<p>1</p><p>2</p>{_FIELD}", f"<p>1</p>{_FIELD}"),
        (_FIELD, f'<p id="a">1</p>\n{_FIELD}'),
        (f'<p id="a">1</p>{_FIELD}<p id="c">3</p>', f'<p id="c">3</p>{_FIELD}<p id="a">1</p>'),
        (f'<p id="a">1</p>{_FIELD}', f'{_FIELD}<p id="a">1</p>'),
        (f'<p id="a">1</p>{_FIELD}', f'{_FIELD}<p id="a">1</p><p id="a">2</p>'),
    ],
)
def test_focus_stays_whatever_comes_and_goes_around_it(visit, before, after):
    """A notice above a field ends, groups change their order: who types goes on typing."""
    assert ["typed", after] == visit("/control").evaluate(_MORPHED, [before, after])


@pytest.mark.usefixtures("some_work")
def test_everything_can_be_read_and_sent_without_javascript(visit, visitor):
    """Lists, an object, and a form that leads to what it made."""
    page = visit("/submit", java_script_enabled=False)
    page.get_by_label("Name").fill("no script")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("The object is accepted.")).to_be_visible()
    page.goto("/objects")
    expect(page.locator("#live")).to_contain_text("no script")
    expect(page.locator("#connection")).to_contain_text("As of")
    visitor.shoot(page)


def test_what_people_wrote_runs_nowhere(system, visit):
    """A name that is a script or an image with a handler is text on every page, and no dialog opens."""
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    object_id = system.submit(name=evil, kind="letter", tasks=1, content=evil)
    system.reaches(object_id, "FAILED")
    for path in (f"/objects/{object_id}", "/objects", "/dead-letters?error=onerror", "/"):
        page = visit(path)
        page.on("dialog", lambda dialog: pytest.fail(f"a script of a name has run: {dialog.message}"))
        expect(page.locator("#connection")).to_have_text("Live")
        assert 0 == page.locator("main img").count()
    expect(visit(f"/objects/{object_id}").get_by_role("heading", level=1)).to_have_text(evil)

// Small comforts of forms; without them everything works as well.

// A second click while the first is under way would submit twice.
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.ask;
  if (question && !window.confirm(question)) {
    event.preventDefault();
    return;
  }
  for (const button of event.target.querySelectorAll("button")) {
    setTimeout(() => { button.disabled = true; });
  }
});

// A page that comes back out of the browser's memory may be used again.
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button[disabled]")) button.disabled = false;
});

// On a narrow screen the pages' names do not all fit: the one that is shown should be in sight.
document.querySelector("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });

// What a form was refused for is where the eye and the reader should be.
document.querySelector("[role=alert]")?.focus();

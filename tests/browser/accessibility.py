"""What axe finds on a page, and what must not be there for small screens."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

GRAVE = ("serious", "critical")
WIDER = """() => {
  const root = document.documentElement, width = root.clientWidth;
  if (root.scrollWidth <= width) return [];
  const style = (element) => getComputedStyle(element);
  // Inside of something that scrolls by itself, which holds what is placed freely only if it is
  // placed itself.
  const held = (element) => {
    let free = style(element).position === "absolute";
    for (let e = element.parentElement; e && e !== document.body; e = e.parentElement) {
      if (free && style(e).position === "static") continue;
      free = style(e).position === "absolute";
      if (style(e).overflowX !== "visible") return true;
    }
    return false;
  };
  // Text may stand out of the element that it is in.
  const right = (element) => Math.round(element.getBoundingClientRect().left +
    (style(element).overflowX === "visible" ? Math.max(element.scrollWidth, element.offsetWidth)
      : element.offsetWidth));
  return [`document: ${root.scrollWidth} > ${width}`,
    ...[...document.body.querySelectorAll("*")]
      .filter((e) => right(e) > width && !held(e)).slice(0, 8)
      .map((e) => `${e.outerHTML.slice(0, 120)}: ${right(e)}`)];
}"""


def findings(page: "Page") -> list[str]:
    """What keeps people from using the page, with the element that it is about."""
    from axe_playwright_python.sync_playwright import Axe

    answer: dict[str, Any] = Axe().run(page).response
    return [
        f"{found['id']} ({found['impact']}): {found['help']}: "
        + "; ".join(
            f"{node['target']} {node['html'][:160]} {node['failureSummary'][:300]}"
            for node in found["nodes"][:4]
        )
        for found in answer["violations"]
        if found["impact"] in GRAVE
    ]


def wider_than_the_screen(page: "Page") -> list[str]:
    """Elements that one would have to scroll sideways for; what scrolls by itself may be wide."""
    found: list[str] = page.evaluate(WIDER)
    return found

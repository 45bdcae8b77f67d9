#!/usr/bin/env python3
"""Uses the page of `tracepoints explore` in a browser without a window.

    tests/page.py SITE [SCREENSHOTS]

SITE is a page made of at least the fixtures 6.1.192-rt and 6.18.15, in this order. Takes
the Python package playwright, and Chromium.
"""

import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

site = pathlib.Path(sys.argv[1]).resolve()
screenshots = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
EVENT = "sched:sched_process_exit"


def is_equal(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: {found!r}, not {expected!r}")


def holds(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")


def screenshot(page, name):
    if screenshots:
        screenshots.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=screenshots / f"{name}.png")


def run(browser, scheme):
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1400, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(f"file://{site}/index.html")
    page.wait_for_selector("#results a")
    screenshot(page, f"{scheme}-first")

    # Search, by keys alone.
    page.keyboard.press("Escape")
    page.keyboard.type("process exit")
    page.wait_for_function("document.querySelector('#results a')?.textContent.includes('exit')")
    took = page.evaluate("page.searchMilliseconds")
    holds(took <= 100, f"a search takes at most 100 ms, and took {took}")
    page.keyboard.press("ArrowDown")
    is_equal(page.evaluate("document.activeElement.getAttribute('href')"), f"#{EVENT}", "the first result")
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.title === '{EVENT} · Tracepoints'")
    is_equal(page.inner_text("main h1"), EVENT, "the event shown")
    screenshot(page, f"{scheme}-event")

    # A field that only newer kernels have, and one that moved.
    rows = page.locator("main table tbody tr")
    texts = rows.all_inner_texts()
    holds(any(text.startswith("group_dead\tabsent") for text in texts), f"group_dead is new: {texts}")
    holds("sched_process_template" in page.inner_text("main"), "the change of the struct is told")

    # Two kernels against each other.
    kernels = page.evaluate("page.index.kernels")
    page.get_by_label("against").select_option(label=kernels[0])
    page.wait_for_function("document.querySelectorAll('main thead th').length > 0")
    page.wait_for_function("location.hash.includes('with=')")
    heads = page.locator("main h2:has-text('Fields') ~ .scroll thead th").all_inner_texts()
    holds(kernels[0] in heads, f"{kernels[0]} is compared with: {heads}")
    screenshot(page, f"{scheme}-compared")

    # Source to copy, and a link to a field.
    page.get_by_role("button", name="Copy C for libbpf").click()
    page.wait_for_selector("button:has-text('Copied')")
    copied = page.evaluate("navigator.clipboard.readText()")
    holds(f'SEC("tracepoint/{EVENT.replace(":", "/")}")' in copied, "the program is on the clipboard")
    page.goto(f"file://{site}/index.html#{EVENT}/pid")
    page.wait_for_selector("tr.chosen")
    is_equal(page.inner_text("tr.chosen th"), "pid", "the field that the link names")

    # By a field's name.
    page.keyboard.press("/")
    page.keyboard.type("group_dead")
    page.wait_for_function("document.querySelectorAll('#results a').length >= 1")
    holds(EVENT in page.inner_text("#results"), "an event is found by a field")

    # An event that no kernel has, and text that would be markup.
    page.goto(f"file://{site}/index.html#<img src=x onerror=alert(1)>")
    page.wait_for_function("document.querySelector('main').textContent.includes('None of these kernels')")
    is_equal(page.locator("main img").count(), 0, "elements made of an address")

    # Every event is shown, on each kernel.
    failed = page.evaluate(
        """async () => {
            const failed = [];
            for (const row of page.index.events) {
                try {
                    const entry = unpack(await chunk(row.chunk), row.event);
                    for (const known of entry.on) {
                        described(entry, { event: row.event, field: '', on: known.kernel, compared: null });
                    }
                } catch (error) {
                    failed.push(`${row.event}: ${error}`);
                }
            }
            return failed;
        }"""
    )
    is_equal(failed, [], "events that cannot be shown")

    # Each control has a name for those who do not see it.
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, a')]
            .filter((control) => !(control.getAttribute('aria-label') || control.textContent.trim() || control.labels?.length))
            .map((control) => control.outerHTML)"""
    )
    is_equal(nameless, [], "controls without a name")
    is_equal([url for url in requested if not url.startswith(f"file://{site}/")], [], "other addresses")
    is_equal(said, [], "the console")
    context.close()
    return took


with sync_playwright() as playwright:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    for scheme in ["light", "dark"]:
        print(f"{scheme}: first search in {run(browser, scheme):.1f} ms")
    browser.close()

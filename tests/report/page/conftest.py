"""A headless Chromium of the system's, and pages opened in it that must log nothing and request nothing."""

import shutil

import pytest


@pytest.fixture(scope="module")  # its loop of events must not run while other files' tests start one
def chromium():
    """A browser; without one these tests are skipped."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path:
        pytest.skip("no Chromium on this machine: the page is not tested in a browser")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """A function that opens a file in a new page, which must neither log nor request anything.

    With ``drawn`` it waits for the chart, which comes last.
    """
    noise, addresses, contexts = [], set(), []

    def open_page(file, *, part="", drawn=False, width=1280, height=860, **settings):
        context = chromium.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: noise.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: noise.append(f"error: {error}"))
        page.on("dialog", lambda dialog: noise.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: noise.append(request.url))
        addresses.update((file.as_uri(), file.as_uri() + part))
        page.goto(file.as_uri() + part)
        if drawn:
            page.wait_for_selector("#chart[data-drawn]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [line for line in noise if line not in addresses] == []

"""Dagster's pages through a browser: what a person clicks and reads; which of it must hold is in the tests."""

from collections.abc import Callable, Collection
from pathlib import Path

from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

_PAGE_S = 60.0
# The page was drawn anew after the element was found: nothing was clicked or typed.
_DRAWN_ANEW = (StaleElementReferenceException, ElementClickInterceptedException, ElementNotInteractableException)
_DIALOG = "//*[@role='dialog']"
_BUTTON = "//button[normalize-space()='{0}']"
_TO_THE_END = """
for (const one of document.querySelectorAll('*'))
  if (['auto', 'scroll'].includes(getComputedStyle(one).overflowY)) one.scrollTop = one.scrollHeight
"""


class DagsterUi:
    """The UI of one `up`.

    Attributes:
        driver: the browser.
        url: of the UI.
        screenshots: folder of what was seen.
    """

    def __init__(self, driver: Chrome, url: str, screenshots: Path) -> None:
        self.driver = driver
        self.url = url
        self.screenshots = screenshots

    def open(self, path: str, *texts: str) -> None:
        """Open a page and wait until it shows the texts."""
        self.driver.get(self.url + path)
        self.await_texts(*texts)

    def text(self) -> str:
        """Return all that the page shows."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def lines(self) -> list[str]:
        """Return what the page shows, one label a line."""
        return self.text().splitlines()

    def await_texts(self, *texts: str, timeout_s: float = _PAGE_S) -> None:
        """Wait until the page shows every text; else fail with what it shows and a picture of it."""
        self._await_texts(self.text, texts, timeout_s)

    def await_lines(self, *lines: str) -> None:
        """Wait until each is all that one of the page's labels says; else fail as `await_texts` does."""
        self._await_texts(self.lines, lines, _PAGE_S)

    def await_end_of_log(self, *texts: str, timeout_s: float = _PAGE_S) -> None:
        """Wait until the page of a run shows every text, at the end of its log at the latest."""
        self._await_texts(self._text_at_the_end, texts, timeout_s)

    def await_leaving(self, path: str) -> None:
        """Wait until another page than this one is shown."""
        self._wait().until(lambda driver: path not in driver.current_url)

    def choose_cell(self, date: str, symbol: str) -> None:
        """Choose a date and a symbol in the lists of a partitions page, whose right side then tells of that cell."""
        for dimension, key in (("date", date), ("symbol", symbol)):
            # The list holds only the rows in sight: a filter brings the row there.
            self._type(f"//input[starts-with(@placeholder, 'Filter by {dimension}')]", key)
            self.click(f"//*[text()='{key}']")

    def click(self, xpath: str) -> None:
        """Click the last element of a path, once there is one that can be clicked."""
        self._act(xpath, lambda found: found.click())

    def click_button(self, label: str) -> None:
        """Click the last button with a label."""
        self.click(_BUTTON.format(label))

    def picture(self, name: str) -> None:
        """Save what is seen."""
        self.screenshots.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))

    def launch_backfill(self, group: str, dates: str, cells: int, *, picture: str) -> str:
        """Pick dates and all symbols in the dialog of a group, launch, wait for the end; return its status."""
        self.open_dialog(f"/locations/kline_pipeline/asset-groups/{group}")
        self.choose_dates(dates)
        self.choose_symbols()
        self.await_texts(f"{cells} partitions")
        self.picture(picture)
        self.launch("Launch backfill")
        return self.newest_backfill(picture)

    def switch_off(self, sensor: str) -> None:
        """Switch off a sensor that is on, on its page."""
        self.open(f"/locations/kline_pipeline/sensors/{sensor}", "Running", "Latest tick")
        self.click("//label[.//input[@type='checkbox' and @checked]]")
        self.await_texts("Reset sensor status")  # to its default, which is on

    def open_dialog(self, path: str) -> None:
        """Open the dialog that launches runs, on the page of a group or a job."""
        self.open(path, "raw_batches", "Materialize all…")
        self.click_button("Materialize all…")
        self.await_texts("Partition selection", "Add a partition")

    def add_symbol(self, symbol: str) -> None:
        """Add a symbol to a dataset from the open dialog, whose own list has it a moment later."""
        self.click("//*[text()='Add a partition']")
        self.await_texts("Partition name")
        self._type(f"{_DIALOG}//input", symbol)
        self.click_button("Save")
        self._await_gone("//*[text()='Partition name']")

    def choose_dates(self, dates: str) -> None:
        """Type dates in the open dialog, one or [first...last]."""
        field = f"{_DIALOG}//input[starts-with(@placeholder, 'ex: 20')]"
        self._type(field, Keys.CONTROL, "a")
        self._type(field, dates, Keys.ENTER)

    def choose_symbols(self, symbol: str = "") -> None:
        """Choose a symbol in the open dialog, all without one."""
        if not symbol:
            self.click(f"{_DIALOG}//button[normalize-space()='All']")
            return
        self.click(f"{_DIALOG}//*[text()='Select a partition or create one']")
        self.click(f"//*[text()='{symbol}']")
        self._type("//input[@placeholder='Filter partitions']", Keys.ESCAPE)

    def launch(self, label: str) -> None:
        """Launch what the open dialog has, and wait until it is gone."""
        self.click_button(label)
        self._await_gone(_DIALOG)

    def open_check(self, asset: str, check: str, *texts: str) -> None:
        """Open the results by partition of a check, and wait for the texts."""
        self.open(f"/assets/{asset}?view=checks&checkDetail={check}", "Execution history")
        self.click("//*[text()='Partitions']")
        self.await_texts(*texts)

    def await_image(self) -> None:
        """Wait until a dialog shows an image that can be drawn."""
        drawn = (
            "return [...document.querySelectorAll('[role=dialog] img')].some(one => one.complete && one.naturalWidth)"
        )
        self._wait().until(lambda driver: driver.execute_script(drawn))

    def newest_backfill(self, picture: str) -> str:
        """Wait until the newest backfill has ended and return its status."""
        self.open("/runs?view=backfills", "Launched by")
        row = "(//a[starts-with(@href, '/runs/b/')])[1]"
        link = self._find(row).get_attribute("href")
        assert link is not None
        self.driver.get(link)
        ends = {"Succeeded", "Failed", "Canceled"}
        self._wait(240).until(lambda _: self._below("Status") in ends)
        self.picture(f"{picture}_ended")
        return self._below("Status")

    def _await_texts(self, text: Callable[[], Collection[str]], texts: tuple[str, ...], timeout_s: float) -> None:
        def shown(_: Chrome) -> bool:
            now = text()
            return all(one in now for one in texts)

        try:
            self._wait(timeout_s).until(shown)
        except TimeoutException:
            self.picture("failed")
            raise AssertionError(f"not all of {texts} in: {self.text()}") from None

    def _text_at_the_end(self) -> str:
        # A log holds only the rows in sight, and following it can stop a row short of its end.
        self.driver.execute_script(_TO_THE_END)
        return self.text()

    def _await_gone(self, xpath: str) -> None:
        self._wait().until(lambda driver: not driver.find_elements(By.XPATH, xpath))

    def _below(self, label: str) -> str:
        """Return the line below a label, "" where there is none yet."""
        lines = self.lines()
        return lines[lines.index(label) + 1] if label in lines[:-1] else ""

    def _wait(self, timeout_s: float = _PAGE_S) -> WebDriverWait[Chrome]:
        return WebDriverWait(self.driver, timeout_s, ignored_exceptions=_DRAWN_ANEW)

    def _type(self, xpath: str, *keys: str) -> None:
        self._act(xpath, lambda found: found.send_keys(*keys))

    def _act(self, xpath: str, act: Callable[[WebElement], None]) -> None:
        def acted(_: Chrome) -> bool:
            act(self._find(xpath))
            return True

        self._wait().until(acted)

    def _find(self, xpath: str) -> WebElement:
        def there(driver: Chrome) -> WebElement | None:
            found = [one for one in driver.find_elements(By.XPATH, xpath) if one.is_displayed() and one.is_enabled()]
            return found[-1] if found else None

        element = self._wait().until(there)
        assert isinstance(element, WebElement)
        return element

"""Dagster's pages through a browser: what a person clicks and reads; which of it must hold is in the tests."""

from pathlib import Path

from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

_PAGE_S = 60.0
_BUTTON = "//button[normalize-space()='{0}']"


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
        try:
            WebDriverWait(self.driver, timeout_s).until(lambda _: all(one in self.text() for one in texts))
        except TimeoutException:
            self.picture("failed")
            raise AssertionError(f"not all of {texts} in: {self.text()}") from None

    def await_leaving(self, path: str) -> None:
        """Wait until another page than this one is shown."""
        WebDriverWait(self.driver, _PAGE_S).until(lambda driver: path not in driver.current_url)

    def choose_cell(self, date: str, symbol: str) -> None:
        """Choose a date and a symbol in the lists of a partitions page, whose right side then tells of that cell."""
        for dimension, key in (("date", date), ("symbol", symbol)):
            # The list holds only the rows in sight: a filter brings the row there.
            self._find(f"//input[starts-with(@placeholder, 'Filter by {dimension}')]").send_keys(key)
            self.click(f"//*[text()='{key}']")

    def click(self, xpath: str) -> None:
        """Click the last element of a path, once there is one that can be clicked."""
        self._find(xpath).click()

    def click_button(self, label: str) -> None:
        """Click the last button with a label."""
        self.click(_BUTTON.format(label))

    def picture(self, name: str) -> None:
        """Save what is seen."""
        self.screenshots.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))

    def launch_backfill(self, group: str, dates: str, cells: int, *, picture: str) -> str:
        """Pick dates and all symbols in the dialog of a group, launch, wait for the end; return its status."""
        self.open(f"/locations/kline_pipeline/asset-groups/{group}", "raw_batches", "candles_parquet")
        self.click_button("Materialize all…")
        field = self._find("//*[@role='dialog']//input[starts-with(@placeholder, 'ex: 20')]")
        field.send_keys(dates, Keys.ENTER)
        self.click("//*[@role='dialog']//button[normalize-space()='All']")
        self.await_texts(f"{cells} partitions")
        self.picture(picture)
        self.click_button("Launch backfill")
        WebDriverWait(self.driver, _PAGE_S).until(
            lambda _: not self.driver.find_elements(By.XPATH, "//*[@role='dialog']")
        )
        return self.newest_backfill(picture)

    def newest_backfill(self, picture: str) -> str:
        """Wait until the newest backfill has ended and return its status."""
        self.open("/runs?view=backfills", "Launched by")
        row = "(//a[starts-with(@href, '/runs/b/')])[1]"
        link = self._find(row).get_attribute("href")
        assert link is not None
        self.driver.get(link)
        ends = {"Succeeded", "Failed", "Canceled"}
        WebDriverWait(self.driver, 240).until(lambda _: self._below("Status") in ends)
        self.picture(f"{picture}_ended")
        return self._below("Status")

    def _below(self, label: str) -> str:
        """Return the line below a label, "" where there is none yet."""
        lines = self.lines()
        return lines[lines.index(label) + 1] if label in lines[:-1] else ""

    def _find(self, xpath: str) -> WebElement:
        def there(driver: Chrome) -> WebElement | None:
            found = [one for one in driver.find_elements(By.XPATH, xpath) if one.is_displayed() and one.is_enabled()]
            return found[-1] if found else None

        element = WebDriverWait(self.driver, _PAGE_S).until(there)
        assert isinstance(element, WebElement)
        return element

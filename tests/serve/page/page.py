"""The page as a person uses it."""

import base64

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait


class Page:
    def __init__(self, driver):
        self.driver = driver

    def open(self, service, **kept):
        """Opens a service's page in a browser that keeps `kept`."""
        self.driver.get(service.url + "health")
        self.run("localStorage.clear(); sessionStorage.clear()")
        for key, value in kept.items():
            self.run("localStorage.setItem('wick.' + arguments[0], JSON.stringify(arguments[1]))", key, value)
        self.driver.get(service.url)
        self.errors()

    def reset(self):
        self.look_like("light")
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)

    def press(self, *keys):
        """Presses keys where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def click(self, text, within="body"):
        """Presses the button with this text."""
        self.until(lambda: [b for b in self.all(f"{within} button") if b.text == text and b.is_displayed()])[-1].click()

    def send(self, text):
        self.find("#text").send_keys(text, Keys.ENTER)

    def until(self, condition, seconds=30):
        """Waits until a condition holds, whose value is returned."""
        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: condition())

    def until_answered(self):
        self.until(lambda: self.find("#send").is_displayed())
        return self.texts("article.assistant .body")[-1]

    def errors(self):
        """What the console says that went wrong, such as what the page's policy forbids."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def look_like(self, scheme):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def be_a_phone(self):
        size = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def shoot(self, folder, name):
        if folder:
            options = {"format": "webp", "quality": 60}
            image = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
            (folder / f"{name}.webp").write_bytes(base64.b64decode(image))

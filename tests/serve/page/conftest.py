"""What the tests of the page need: a browser, and services with a quick model and with a slow one."""

import os
import pathlib
import subprocess

import pytest
from selenium import webdriver

from page import Page
from service import Service

WICK = os.environ["WICK"]


@pytest.fixture(scope="session")
def service():
    """nano, which answers at once."""
    service = Service(WICK, "--context", 512)
    yield service
    service.end()


@pytest.fixture(scope="session")
def slow_service(tmp_path_factory):
    """A model of random weights, whose experts are read from a slow device; its answers have no end."""
    model = tmp_path_factory.mktemp("model") / "random.gguf"
    shape = "4b,layers=2,vocab=4096"
    subprocess.run([WICK, "synth", "--shape", shape, "--no-run", "-o", model], check=True, capture_output=True)
    options = ["--chat-template", "chatml", "--memory", "70M", "--emulate", "emmc", "--tokens", 2000]
    service = Service(WICK, model, *options)
    yield service
    service.end()


@pytest.fixture(scope="session")
def shots():
    """Where screenshots go, if anywhere."""
    folder = os.environ.get("WICK_SCREENSHOTS")
    return folder and pathlib.Path(folder)


@pytest.fixture(scope="session")
def driver():
    options = webdriver.ChromeOptions()
    for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,700"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(os.environ["CHROMEDRIVER"])
    driver = webdriver.Chrome(options, service)
    yield driver
    driver.quit()


@pytest.fixture
def page(driver):
    """The browser without anything that it kept, in its usual size and colours."""
    page = Page(driver)
    yield page
    page.reset()

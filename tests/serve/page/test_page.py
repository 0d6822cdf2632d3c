"""The page of `wick serve` in Chromium. Run by ci/page."""

import json

from selenium.webdriver.common.keys import Keys

from conftest import WICK
from service import Service

LIGHT = "turn on the light in the kitchen"
ON = '{"device":"light","room":"kitchen","action":"on"}'
GREEDY = {"temperature": 0}
TEXT = """# Soup
A *simple* one, with **lentils** and `cumin`:

1. chop
   - onions
   - carrots

2. cook

> slowly

```python
print("<b>" * 2)
```
See [a page](https://example.org/soup) and https://example.net/a_b_c."""


def kept(*messages):
    """A conversation as the browser keeps it."""
    messages = [{"role": role, "content": content} for role, content in messages]
    return {"conversation.one": {"id": "one", "title": "Kept", "changed": 1, "messages": messages}}


def test_an_answer_comes_and_stays(page, service):
    page.open(service, settings=GREEDY)
    page.send(LIGHT)
    assert page.until_answered() == ON
    assert "tokens" in page.texts("article.assistant .note")[-1]
    assert page.texts("article.user .body") == [LIGHT]
    assert ON in page.texts("#announcer")[0]
    page.driver.refresh()
    assert page.texts("article.assistant .body") == [ON]
    assert page.driver.title.startswith(LIGHT)
    page.click("Retry")
    assert page.until_answered() == ON
    assert len(page.all("article")) == 2
    assert page.errors() == []


def test_an_answer_streams_and_stops(page, slow_service):
    page.open(slow_service)
    page.run("""
        window.seen = new Set();
        new MutationObserver(() => document.querySelectorAll("progress").forEach((bar) => seen.add(bar.max)))
            .observe(document.getElementById("log"), { childList: true, subtree: true });
    """)
    page.send("one two three four five six seven eight nine ten " * 8)
    size = lambda: len("".join(page.texts("article.assistant .body")))
    some = page.until(size)
    page.until(lambda: size() > some)
    assert page.run("return seen.size") > 0
    assert not page.find("#send").is_displayed()
    page.press(Keys.ESCAPE)
    page.until_answered()
    assert page.texts("article.assistant .note")[-1] == "Stopped."
    figures = lambda: page.texts("#figures > div:not([hidden]) dt")
    page.until(lambda: "Experts found in memory" in figures() and "Read" in figures())
    # The service has ended it as well.
    page.until(lambda: "0 running" in "".join(page.texts("#figures")))
    page.click("Retry")
    page.until(lambda: page.find("#stop").is_displayed() and size())
    page.click("Stop")
    page.until_answered()
    assert len(page.all("article")) == 2


def test_errors_are_shown_and_can_be_retried(page):
    service = Service(WICK, "--context", 128)
    page.open(service, settings=GREEDY)
    page.send("too long " * 200)
    page.until_answered()
    assert "the context of this service is 128 tokens" in page.texts("article .error")[0]
    # What failed is no part of what is asked next.
    page.send(LIGHT)
    assert page.until_answered() == ON
    service.end()
    page.click("Retry")
    page.until_answered()
    assert "cannot be reached" in page.texts("article .error")[-1]
    service = Service(WICK, "--context", 128, port=service.port)
    page.click("Retry")
    assert page.until_answered() == ON
    service.end()


def test_half_an_answer_stays_where_the_connection_breaks(page):
    service = Service(WICK)
    page.open(service)
    page.run("""
        const part = 'data: {"choices": [{"delta": {"content": "half an ans"}}]}\\n\\n';
        const { fetch } = window;
        window.fetch = (path, ...rest) => path.includes("chat") ? Promise.resolve(new Response(part)) : fetch(path, ...rest);
    """)
    page.send("hi")
    assert page.until_answered() == "half an ans"
    assert page.texts("article .error") == ["The connection broke off."]
    service.end()
    page.until(lambda: page.texts("#state") == ["not reached"])


def test_html_stays_text(page, service):
    evil = '<script>window.evil = 1</script><img src=x onerror="window.evil = 2"> [a](javascript:evil) [b](/v1) <b>c</b>'
    page.open(service, settings={"max_tokens": 4}, **kept(("user", evil), ("assistant", f"{evil}\n\n```{evil}\n{evil}")))
    page.send(evil)
    page.until_answered()
    assert all(evil in text for text in page.texts("article.user .body"))
    assert evil in page.texts("article.assistant .body")[0]
    assert evil in page.texts("article.assistant pre")
    assert page.run("return document.querySelectorAll('#log :is(script, img, b, a)').length") == 0
    assert page.run("return window.evil") is None
    assert page.errors() == []


def test_markdown(page, service):
    page.open(service, **kept(("user", "soup"), ("assistant", TEXT)))
    body = page.run("return document.querySelector('article.assistant .body').innerHTML")
    for part in [
        "<h3>Soup</h3>",
        "<p>A <em>simple</em> one, with <strong>lentils</strong> and <code>cumin</code>:</p>",
        '<ol start="1"><li>chop<ul><li>onions</li><li>carrots</li></ul></li><li>cook</li></ol>',
        "<blockquote><p>slowly</p></blockquote>",
        '<code>print("&lt;b&gt;" * 2)</code>',
        ">https://example.net/a_b_c</a>.</p>",
    ]:
        assert part in body, body
    link = page.find("article.assistant a")
    assert link.get_attribute("href") == "https://example.org/soup"
    assert "noopener" in link.get_attribute("rel")
    page.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.click("Copy", ".code")
    assert page.until(lambda: page.run("return window.copied")) == 'print("<b>" * 2)'
    page.click("Copy", "article.assistant > .tools")
    page.until(lambda: page.run("return window.copied") == TEXT)


def test_marks_without_an_end_take_no_time(page, service):
    page.open(service)
    script = """
        const [url, texts, done] = arguments;
        import(url).then(({ render }) => done(texts.map((text) => render(text).length)), (error) => done(String(error)));
    """
    marks = ["**a ", "_a ", "`a``", "[a", "> ", "- ", "# ", "* a\n", "  - a\n\n", "[a]("]
    page.driver.set_script_timeout(60)
    found = page.driver.execute_async_script(script, service.url + "page/markdown.js", [mark * 20_000 for mark in marks])
    assert isinstance(found, list) and all(found), found


def test_conversations(page, service):
    page.open(service, settings=GREEDY)
    page.send("first")
    page.until_answered()
    page.click("New conversation")
    assert page.texts("article") == []
    page.send("second")
    page.until_answered()
    titles = lambda: page.texts("#conversations .title")
    assert titles() == ["second", "first"]
    page.click("first")
    assert page.texts("article.user .body") == ["first"]
    page.click("Rename")
    page.press("renamed", Keys.ENTER)
    assert titles() == ["second", "renamed"]
    page.click("Rename")
    page.press("not this", Keys.ESCAPE)
    assert titles() == ["second", "renamed"]
    assert page.driver.switch_to.active_element.text == "renamed"
    page.click("Delete")
    page.driver.switch_to.alert.accept()
    assert titles() == ["second"]
    assert page.texts("article.user .body") == ["second"]
    page.driver.refresh()
    assert titles() == ["second"]


def test_settings_are_sent(page, service):
    page.open(service)
    page.click("Settings")
    for name, value in {"system": "Be brief.", "temperature": "0", "max_tokens": "3", "seed": "7"}.items():
        page.find(f"#settings [name={name}]").send_keys(value)
    page.click("Done")
    page.run("""
        const fetched = window.fetch;
        window.fetch = (path, options) => { if (options.body) window.sent = options.body; return fetched(path, options); };
    """)
    page.send(LIGHT)
    assert page.until_answered() == "" or len(page.texts("article.assistant .body")[-1]) < len(ON)
    sent = json.loads(page.run("return window.sent"))
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0, 3, 7)
    assert "top_k" not in sent
    assert "cut off" in page.texts("article.assistant .note")[-1]


def test_a_key_is_asked_for(page, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("mine\n")
    service = Service(WICK, "--api-key-file", keys)
    page.open(service, settings=GREEDY)
    shown = lambda: page.find("#key").is_displayed()
    page.until(shown)
    page.press(Keys.ESCAPE)
    page.until(lambda: page.find("#enter-key").is_displayed())
    # Asked again where it is needed; a wrong one once more.
    page.send(LIGHT)
    page.until(shown)
    page.press("wrong", Keys.ENTER)
    page.until(lambda: shown() and "none of this service's" in page.texts("#key-reason")[0])
    page.press("mine", Keys.ENTER)
    assert page.until_answered() == ON
    page.until(lambda: page.texts("#state") == ["ready"] and page.texts("#model") != [""])
    assert not page.find("#enter-key").is_displayed()
    page.driver.refresh()
    page.until(lambda: page.texts("#state") == ["ready"])
    assert not shown()
    assert "mine" not in page.run("return JSON.stringify(localStorage)")
    service.end()


def test_keys_of_the_keyboard(page, service):
    page.open(service, settings=GREEDY)
    page.find("#text").send_keys("a", Keys.SHIFT, Keys.ENTER, Keys.NULL, "b")
    assert page.find("#text").get_property("value") == "a\nb"
    assert page.all("article") == []
    page.press(Keys.ENTER)
    page.until_answered()
    assert page.texts("article.user .body") == ["a\nb"]
    names = []
    page.run("document.querySelector('.skip').focus()")
    while "text" not in names:
        page.press(Keys.TAB)
        names.append(page.run("const e = document.activeElement; return e.id || e.ariaLabel || e.textContent"))
        outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", names
    expected = ["open-settings", "new", "a", "Rename: a", "Delete: a", "log", "Copy: You", "Copy: Answer", "Retry", "text"]
    assert names == expected


def test_no_sideways_scrolling_on_a_phone(page, service):
    wide = "word" * 100
    text = f"{wide}\n\n    {wide}\n\n```\n{wide}\n```\n\n- {wide}\n\n`{wide}` https://example.org/{wide}"
    page.be_a_phone()
    page.open(service, **kept(("user", wide), ("assistant", text)))
    widths = lambda: page.run("""
        const wide = (e) => e.scrollWidth > e.clientWidth && e.tagName !== "PRE" && !e.matches(".unseen, button, header p");
        const all = [...document.querySelectorAll("html, body, main, #log, #log *, #side, dialog[open]")];
        return all.filter(wide).map((e) => e.outerHTML.slice(0, 60));
    """)
    assert page.run("return innerWidth") == 360
    assert widths() == []
    page.click("☰")
    assert page.find("#new").is_displayed() and widths() == []
    page.press(Keys.ESCAPE)
    assert not page.find("#new").is_displayed()
    page.click("Settings")
    assert widths() == []
    page.press(Keys.ESCAPE)


def test_figures(page, slow_service, shots):
    conversation = kept(("user", "How do I make lentil soup?"), ("assistant", TEXT))
    conversation["conversation.one"]["title"] = "Lentil soup"
    page.open(slow_service, settings={"max_tokens": 60}, **conversation)
    page.click("New conversation")
    page.send("What do random weights say?")
    page.until_answered()
    for _ in range(5 if shots else 0):
        page.click("Retry")
        page.until_answered()
    page.until(lambda: "0 running" in page.texts("#figures")[0])
    figures = page.texts("#figures > div:not([hidden]) dd")
    assert [any(unit in figure for figure in figures) for unit in ["tokens/s", "MiB", "%", "B/s"]] == [True] * 4
    page.click("Lentil soup")
    page.run("document.getElementById('log').scrollTop = 0")
    page.shoot(shots, "light")
    page.look_like("dark")
    page.shoot(shots, "dark")
    page.be_a_phone()
    page.run("document.getElementById('log').scrollTop = 0")
    page.shoot(shots, "phone")

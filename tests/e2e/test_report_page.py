"""The page of a report in a browser: on a screen, a telephone and paper, light and dark, without scripts and without a net.

The reports are made and signed here, from doc/format-report.md alone: no daemon runs.
"""
import datetime
import json
import os
import re
import tempfile

import pytest

import harness

signing = pytest.importorskip("nacl.signing", reason="python3-nacl is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="python3-selenium is not installed")
CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"

HOSTILE = ["<script>document.title='owned'</script>", "\"><img src=http://192.0.2.1/x onerror=\"document.title='owned'\">",
           "'; background:url(http://192.0.2.1/y) '", "</style><script src=//192.0.2.1/z></script>", "&lt;b&gt;&#60;i&#62;",
           "rtl\u202egpj.exe", "long-" + "x" * 400, "a b\nc\td\x1b[31m", "\u05d0\u05d1\u05d2.txt", "javascript:document.title='owned'"]
MONDAY = datetime.date(2026, 1, 5)
PURPOSES = ["support", "data-migration", "consulting", "training", "technology-move", "offers-and-events", "legal-process",
            "fraud-prevention", "improve-services", "legal-compliance"]


def week(i):
    return (MONDAY + datetime.timedelta(days=7 * i)).isoformat()


def report(weeks=40, names=(), purposes=PURPOSES):
    cells = [{"week": week(i), "purpose": p, "opens": 1 + (i * 7 + j * 3) % 40}
             for i in range(weeks) for j, p in enumerate(purposes) if (i + j) % 3]
    opens = {p: sum(c["opens"] for c in cells if c["purpose"] == p) for p in purposes}
    text = list(names) or ["Jane Doe"]
    any_ = lambda i: text[i % len(text)]  # noqa: E731
    files = [{"file": f"{i:032x}", "path": name, "opens": 5, "last": "2026-02-02T10:00:00Z", "people": [any_(i)],
              "purposes": [any_(i + 1)]} for i, name in enumerate([*names, "finance/2026/invoice.pdf", None])]
    until = MONDAY + datetime.timedelta(days=7 * max(weeks, 1))
    return {
        "version": 1, "kind": "report", "controller": any_(0), "contact": any_(1),
        "client": {"client": "acme", "id": "00" * 16, "name": any_(2), "email": any_(3), "state": "ended"},
        "period": {"from": "2026-01-01T00:00:00Z", "until": f"{until}T00:00:00Z"}, "made_at": f"{until}T09:45:00Z", "made_by": any_(4),
        "policy": {"name": any_(5), "version": any_(6), "hash": "ab", "effective": "2024-05-10T00:00:00Z",
                   "agreement": {"name": any_(0), "version": any_(1), "hash": "cd"}},
        "accesses": {
            "totals": {"people": 2, "sessions": 12, "opens": sum(opens.values()), "files": len(files) + 7, "refused": 3, "writes": 1203,
                       "changes": 9, "bytes_read": 10**9, "bytes_written": 10**7, "records": 123456},
            "purposes": sorted(({"purpose": p, "title": any_(i), "basis": any_(i + 1), "people": 2, "sessions": 3, "opens": opens[p],
                                 "refused": 0} for i, p in enumerate(purposes)), key=lambda r: -r["opens"]),
            "weeks": cells, "files": files, "files_left_out": 7, "names": "shown", "people_left_out": 2,
            "people": [{"user": any_(i), "purpose": any_(i + 1), "title": "", "sessions": 3, "files": 2, "opens": 9, "writes": 4,
                        "changes": 1, "refused": 0, "bytes_read": 123456, "bytes_written": 0, "first": "2026-01-06T08:00:00Z",
                        "last": "2026-02-01T10:00:00Z"} for i in range(6)],
            "refusals": [{"user": any_(7), "purpose": any_(2), "error": e, "times": 3, "last": "2026-03-03T03:03:03Z"}
                         for e in ("NotGranted", any_(3))]},
        "emergencies": [{"user": any_(0), "purpose": any_(1), "opened_at": "2026-01-09T22:10:00Z", "ended_at": None, "reason": any_(2),
                         "closed_at": None}],
        "disclosures": [{"at": "2026-01-08T12:00:00Z", "authority": any_(3), "scope": any_(4), "document": "9f" * 32}],
        "consents": [{"consent": 1, "scope": any_(5), "title": any_(6), "recipient": any_(7), "giver": any_(0), "reason": any_(1),
                      "from": "2026-02-01T00:00:00Z", "until": None, "withdrawn_at": None}],
        "handed_over": [{"at": "2026-01-08T12:00:00Z", "to": "77" * 32}],
        "incidents": [{"at": "2026-01-08T12:00:00Z", "from": "2026-01-07T00:00:00Z", "until": "2026-01-08T00:00:00Z", "persons": 1,
                       "files": 2, "categories": any_(2), "to": any_(3)}], "acts_left_out": 5,
        "retention": {"calendar": [
            {"of": "client", "class": "personal", "title": any_(4), "rule": any_(5), "source": any_(6), "state": "dated",
             "due": "2027-12-30T00:00:00Z"},
            {"of": "class", "class": "credentials", "title": any_(7), "rule": any_(0), "source": any_(1), "state": "waiting",
             "due": "2026-01-01T00:00:00Z", "wait_until": "2027-02-01T00:00:00Z"},
            {"of": "class", "class": "project", "title": any_(0), "rule": any_(0), "source": None, "state": "running", "due": None}],
            "rules": [{"class": "personal", "title": any_(1), "rules": [{"rule": any_(2), "source": any_(3)}]}]},
        "certificates": [{"kind": "erasure", "number": 3, "destroyed_at": "2026-01-09T02:00:00Z", "rule": {"text": any_(4), "source": any_(5)},
                          "file": "acme+erasure-3.json", "keys": 17, "signature": "ab" * 64}], "certificates_left_out": 1,
        "separation": any_(6), "ledger_head": {"batch": 98231, "hash": "12" * 32, "signature": "34" * 64,
                                               "signed_at": "2026-01-09T09:44:59Z", "anchors": [any_(7)]}}


def empty():
    r = report(0)
    r["accesses"].update(purposes=[], files=[], people=[], refusals=[], people_left_out=0, files_left_out=0,
                         totals={"opens": 0, "files": 0, "people": 0, "refused": 0, "records": 0})
    r.update(emergencies=[], disclosures=[], consents=[], handed_over=[], incidents=[], certificates=[], acts_left_out=0,
             certificates_left_out=0, retention={"calendar": [], "rules": []})
    return r


def shortened():
    r = empty()
    r["accesses"]["kept_since"] = "2026-02-03T00:00:00Z"
    return r


def make_page(folder, r, name="page"):
    key = signing.SigningKey.generate()
    text = json.dumps(r, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = re.sub(r"\\u00[0-9a-f]{2}", lambda m: m[0][:2] + m[0][2:].upper(), text)
    file, pub, page = (os.path.join(folder, name + end) for end in (".json", ".pub", ".html"))
    with open(file, "w") as f:
        json.dump({"report": r, "signature": key.sign(b"coffer-report\0" + text.encode()).signature.hex(),
                   "public_key": key.verify_key.encode().hex()}, f)
    with open(pub, "w") as f:
        f.write(key.verify_key.encode().hex() + "\n")
    harness.run([harness.BUILD + "/tools/coffer", "report", "verify", file, "--pubkey", pub, "--html", page], check=True)
    return page


@pytest.fixture(scope="module")
def pages():
    with tempfile.TemporaryDirectory(prefix="coffer-page-", dir="/var/tmp") as folder:
        yield {"rich": make_page(folder, report(), "rich"), "hostile": make_page(folder, report(5, HOSTILE), "hostile"),
               "empty": make_page(folder, empty(), "empty"), "shortened": make_page(folder, shortened(), "shortened")}


@pytest.fixture(scope="module")
def browser():
    if not (os.path.exists(CHROMIUM) and os.path.exists(DRIVER)):
        pytest.skip("chromium and chromium-driver are not installed")
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    options = Options()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--disable-component-update"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    b = webdriver.Chrome(service=Service(DRIVER), options=options)
    b.set_page_load_timeout(30)
    b.set_script_timeout(30)
    yield b
    b.quit()


def show(b, page, width=1000, scheme="light", media=""):
    b.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})
    b.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]})
    b.get("file://" + page)
    return b


@pytest.mark.parametrize("which", ["rich", "hostile", "empty"])
def test_a_telephone_needs_no_sideways_scrolling(browser, pages, which):
    for width in (360, 700, 720, 820, 900, 1000):
        b = show(browser, pages[which], width)
        assert b.execute_script("return document.documentElement.scrollWidth") <= width
        beyond = b.execute_script(
            "return [...document.querySelectorAll('body *')].filter(e => !e.closest('thead') && !e.closest('svg')"
            " && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.tagName + ' ' + e.textContent.slice(0, 60))")
        assert beyond == [], (width, beyond)
        small = b.execute_script("return [...document.querySelectorAll('body *')].filter(e => e.childElementCount == 0 && e.textContent.trim()"
                                 " && !e.closest('svg') && parseFloat(getComputedStyle(e).fontSize) < 12).length")
        assert small == 0


CONTRAST = """
const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
const lum = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 });
  return .2126 * r + .7152 * g + .0722 * b };
const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length == 3 || c[3] == 1) return c.slice(0, 3) } return [255, 255, 255] };
const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + .05) / (y + .05) };
const texts = [...document.querySelectorAll('body *')].filter(e => !e.closest('svg') && !e.closest('style') &&
  [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim()));
const bad = texts.map(e => [ratio(parse(getComputedStyle(e).color), ground(e)), e.tagName + '.' + e.className, e.textContent.slice(0, 30)])
  .filter(r => r[0] < 4.5);
const fills = [...document.querySelectorAll('svg rect:not(.track)')].map(e => [ratio(parse(getComputedStyle(e).fill), ground(e.closest('svg').parentElement)),
  e.getAttribute('class')]).filter(r => r[0] < 3);
const axis = [...document.querySelectorAll('svg text')].map(e => [ratio(parse(getComputedStyle(e).fill), ground(e.closest('svg').parentElement)),
  'axis']).filter(r => r[0] < 4.5);
return [texts.length, bad, fills, axis, ground(document.querySelector('.page'))];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(browser, pages, scheme):
    n, bad, fills, axis, ground = show(browser, pages["rich"], 1000, scheme).execute_script(CONTRAST)
    assert n > 100 and bad == [] and fills == [] and axis == []
    assert (sum(ground) > 600) == (scheme == "light"), ground


def test_paper_is_white_also_where_the_screen_is_dark(browser, pages):
    import base64
    b = show(browser, pages["rich"], 1000, "dark", "print")
    n, bad, fills, axis, ground = b.execute_script(CONTRAST)
    assert ground == [255, 255, 255] and bad == [] and fills == []
    pdf = base64.b64decode(b.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True})["data"])
    assert pdf.startswith(b"%PDF") and 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12


def test_nothing_from_elsewhere_and_no_script(browser, pages):
    for which in pages:
        browser.get_log("performance"), browser.get_log("browser")
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        b = show(browser, pages[which])
        text = b.find_element("tag name", "body").text
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        assert "At a glance" in text and "How this can be checked" in text
        messages = [json.loads(m["message"])["message"] for m in b.get_log("performance")]
        asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
        assert asked == {"file://" + pages[which]}, asked
        assert [m for m in b.get_log("browser")] == [], "the policy of the page, or a mistake in it, stopped something"
        foreign = b.execute_script("return [...document.querySelectorAll('script,link,img,iframe,object,embed,form,base,[style],[onerror],[onclick],"
                                   "[onload]')].map(e => e.outerHTML)")
        assert foreign == [], foreign
        links = b.execute_script("return [...document.querySelectorAll('[href],[src]')].map(e => e.getAttribute('href'))")
        assert set(links) <= {"#figures"}


def test_a_script_that_got_in_would_not_run(browser, pages):
    """The page's own policy, should the escaping fail one day."""
    with open(pages["rich"], encoding="utf-8") as f:
        text = f.read()
    path = pages["rich"] + ".injected.html"
    bad = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><p id=red style='color:red'>x</p>"
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace("<main>", bad + "<main>", 1))
    b = show(browser, path)
    assert b.title != "owned"
    assert b.execute_script("return getComputedStyle(document.getElementById('red')).color") != "rgb(255, 0, 0)"


def test_hostile_names_are_shown_as_they_are(browser, pages):
    b = show(browser, pages["hostile"])
    assert "owned" not in b.title.split(":")[0] or "<script>" in b.title  # text, as everything else
    assert b.execute_script("return document.scripts.length") == 0
    shown = b.execute_script("return [...document.querySelectorAll('th code')].map(e => e.textContent)")
    as_shown = {"rtl\u202egpj.exe": "rtl[U+202E]gpj.exe", "a b\nc\td\x1b[31m": "a b[U+000A]c[U+0009]d[U+001B][31m"}
    assert set(shown) >= {as_shown.get(n, n) for n in HOSTILE}
    styles = b.execute_script("return [document.styleSheets.length, document.querySelectorAll('style').length]")
    assert styles == [1, 1]


def test_the_chart_says_what_the_figures_say(browser, pages):
    r = report()
    b = show(browser, pages["rich"])
    titles = b.execute_script("return [...document.querySelectorAll('svg.bars rect title')].map(e => e.textContent)")
    drawn = sum(int(t.rsplit(": ", 1)[1].replace(",", "")) for t in titles)
    assert drawn == r["accesses"]["totals"]["opens"]
    table = b.execute_script("return [...document.querySelectorAll('#figures tbody td')].map(e => Number(e.textContent.replaceAll(',', '')))")
    assert sum(table) == drawn and len(b.execute_script("return [...document.querySelectorAll('#figures tbody tr')]")) == 40
    legend = b.execute_script("return [...document.querySelectorAll('.legend li')].map(e => e.textContent)")
    assert len(legend) == 8 and legend[-1] == "all others"
    over = b.execute_script("return [...document.querySelectorAll('svg.bars rect')].filter(e => e.getBBox().y < -0.5"
                            " || e.getBBox().x + e.getBBox().width > e.ownerSVGElement.clientWidth + 0.5).length")
    assert over == 0
    heights = b.execute_script("return [...document.querySelectorAll('svg.bars rect')].map(e => e.getBBox().height)")
    n = [int(t.rsplit(": ", 1)[1].replace(",", "")) for t in titles]
    unit = max(h / k for h, k in zip(heights, n))
    assert all(abs(h - unit * k) < 0.2 for h, k in zip(heights, n))


@pytest.mark.parametrize("which", ["rich", "empty"])
def test_for_those_who_do_not_see_it(browser, pages, which):
    b = show(browser, pages[which])
    assert b.execute_script("return [document.documentElement.lang, document.querySelectorAll('h1').length, document.title.length > 5]") == ["en", 1, True]
    unnamed = b.execute_script("return [...document.querySelectorAll('svg')].filter(s => s.getAttribute('aria-hidden') != 'true' &&"
                               " !(s.getAttribute('role') == 'img' && s.querySelector(':scope > title') && s.querySelector(':scope > desc'))).length")
    assert unnamed == 0
    heads = b.execute_script("return [...document.querySelectorAll('table')].map(t => [t.querySelectorAll('thead th[scope=col]').length,"
                             " t.querySelector('tbody tr').children.length, t.querySelectorAll('tbody th[scope=row]').length,"
                             " t.querySelectorAll('tbody tr').length])")
    assert all(columns == cells and rows == row_heads for columns, cells, row_heads, rows in heads), heads
    order = b.execute_script("return [...document.querySelectorAll('h1,h2,h3')].map(e => Number(e.tagName[1]))")
    assert all(b - a <= 1 for a, b in zip(order, order[1:])), order
    ids = b.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_what_is_not_there_is_said_in_words(browser, pages):
    text = show(browser, pages["empty"]).find_element("tag name", "body").text
    for words in ("nobody opened any of your files", "Nobody was refused", "No file was opened", "there was no emergency", "None is recorded",
                  "None was sent to you", "No date is known yet", "Nothing of yours was destroyed"):
        assert words in text, words
    assert "was destroyed, as our policy says" not in text
    assert "null" not in text and "NaN" not in text and show(browser, pages["empty"]).execute_script(
        "return document.querySelectorAll('svg.bars').length") == 0


def test_a_record_that_is_not_whole_any_more_says_so(browser, pages):
    text = show(browser, pages["shortened"]).find_element("tag name", "body").text
    assert "The record before 3 Feb 2026 was destroyed, as our policy says" in text and "As far as the record goes back, nobody" in text

"""The page in a real browser, before a real server: what a visitor sees, hears and can do."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from browser import LOW_CONTRAST, Watched, chromium, find_browser
from PIL import Image
from playwright.sync_api import Browser, Page, WebSocketRoute, expect
from running import Running, frame, running

from featcodec import FeatureCodec
from featcodec.detections import BoxFilter
from featcodec.scenes.drive import Drive
from featcodec.service.server import listen
from featcodec.service.settings import Settings

REFUSED = "net::ERR_CONNECTION_REFUSED"
UNAUTHORIZED = "the server responded with a status of"
PATIENCE = 60_000
TOKEN = "open-Sesame_7.~"  # noqa: S105

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def codec() -> FeatureCodec:
    """Networks that find things on drawn streets, small enough to be quick."""
    return FeatureCodec.load("scenes11", video_codec="hevc", image_size=320, boxes=BoxFilter(conf=0.1), device="cpu")


@pytest.fixture(scope="module")
def street(codec: FeatureCodec) -> list[bytes]:
    """Bitstreams of a drive, small and large ones."""
    drive = Drive.plan(1)
    return [codec.encode(drive.picture(seconds), qp) for seconds, qp in ((0.0, 44), (2.0, 44), (4.0, 24), (6.0, 24))]


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A JPEG file with things on it."""
    file = io.BytesIO()
    Image.fromarray(Drive.plan(1).picture(4.0)).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture
def watch(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens a page in a browser of its own. At the end, none may have complained, but for what it says it expects."""
    opened: list[tuple[Watched, tuple[str, ...]]] = []

    def open_page(url: str, *, expected: tuple[str, ...] = (), **options: Any) -> Watched:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        watched = Watched(context.new_page())
        opened.append((watched, expected))
        watched.page.goto(url)
        return watched

    yield open_page
    for watched, expected in opened:
        watched.page.context.close()
        assert not [text for text in watched.complaints if not any(each in text for each in expected)]


def connected(page: Page) -> None:
    """Wait until it is."""
    expect(page.get_by_role("status").filter(has_text=re.compile("^Connected$"))).to_be_visible()


def painted(page: Page, canvas: str) -> bool:
    """Whether something is drawn on a canvas."""
    return bool(
        page.locator(canvas).evaluate(
            "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((value) => value > 0)"
        )
    )


def drop(page: Page, name: str, kind: str, content: bytes) -> None:
    """Drop a file on the page."""
    code = """([name, kind, text]) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], name, { type: kind }));
      return transfer;
    }"""
    held = page.evaluate_handle(code, [name, kind, base64.b64encode(content).decode()])
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#drop", event, {"dataTransfer": held})


@pytest.mark.slow
def test_a_camera_is_shown_from_its_first_frame_to_its_end(
    server: Running, watch: Callable[..., Watched], street: list[bytes]
) -> None:
    page = watch(server.url).page
    connected(page)
    expect(page.get_by_role("heading", name="No camera is connected")).to_be_visible()
    address = f"ws{server.url.removeprefix('http')}"
    expect(page.locator("#command")).to_have_text(f"featcodec stream VIDEO --to {address} --detector scenes")
    expect(page.locator("#command-token")).to_be_hidden()
    with server.open("/v1/stream?source=North%20gate") as camera:
        sent = 0

        def send(stream: bytes) -> None:
            nonlocal sent
            camera.send(frame(sent, stream))
            camera.recv(timeout=60)
            sent += 1
            page.wait_for_timeout(120)  # the page is shown ten frames a second

        card = page.get_by_role("article", name="North gate")
        for stream in street[:2] * 2:
            send(stream)
        expect(card.locator(".list")).to_contain_text("car")
        assert "car" in (card.locator(".boxes").get_attribute("aria-label") or "")
        assert painted(page, ".boxes")
        expect(card.locator(".qp")).to_have_text("44")
        expect(card.locator(".bits")).to_have_text(re.compile(r"^[\d.]+ kbit/s$"))
        expect(page.locator("#total-found")).to_have_text(re.compile(r"^\d+ objects$"))
        expect(page.locator("#total-rate")).to_have_text(re.compile("bit/s$"))
        expect(page.get_by_role("heading", name="One camera")).to_be_visible()
        expect(page.locator("#news")).to_have_text("North gate is connected")
        ratio = card.locator(".found .ground").evaluate("e => e.clientWidth / e.clientHeight")
        assert ratio == pytest.approx(640 / 384, rel=0.02)
        # What an interceptor sees is a picture, and no empty frame.
        seen = card.get_by_role("img", name="What an attacker reconstructs from the stream of North gate")
        expect(seen).to_be_visible()
        assert seen.evaluate("e => e.naturalWidth") > 100
        expect(card.locator(".when")).to_have_text(re.compile(r"^From frame [0-3]; the boxes are from frame [0-3]$"))
        # The numbers move.
        before = card.locator(".bits").inner_text()
        for stream in street[2:] * 2:
            send(stream)
        expect(card.locator(".qp")).to_have_text("24")
        expect(card.locator(".bits")).not_to_have_text(before)
    expect(card.locator(".fresh")).to_have_text("Disconnected")
    expect(page.locator("#news")).to_have_text("North gate has disconnected")
    expect(card).to_have_count(0)
    expect(page.get_by_role("heading", name="No camera is connected")).to_be_visible()


def test_a_dropped_picture_is_shown_with_what_an_interceptor_sees(
    server: Running, watch: Callable[..., Watched], photo: bytes
) -> None:
    page = watch(server.url).page
    connected(page)
    drop(page, "street.jpg", "image/jpeg", photo)
    expect(page.locator("#picture-status")).to_have_text(re.compile(r"^street\.jpg at QP 38: \d+ objects, encoded in "))
    expect(page.locator("#result-list")).to_contain_text("car")
    assert painted(page, "#result-boxes")
    assert page.locator("#original").evaluate("e => [e.naturalWidth, e.naturalHeight]") == [640, 384]
    assert page.locator("#reconstruction").evaluate("e => e.naturalWidth") > 100
    assert page.locator("#file-size").inner_text() == f"{len(photo) / 1000:.1f} kB"
    expect(page.locator("#stream-size")).to_have_text(re.compile(r"^[\d.]+ kB$"))
    times = re.fullmatch(r"The stream is ([\d.]+) times smaller.*", page.locator("#ratio").inner_text())
    assert times
    assert float(times[1]) > 5


def test_a_higher_qp_makes_a_smaller_stream(server: Running, watch: Callable[..., Watched], photo: bytes) -> None:
    page = watch(server.url).page
    page.set_input_files("#file", {"name": "street.jpg", "mimeType": "image/jpeg", "buffer": photo})
    expect(page.locator("#picture-status")).to_contain_text("at QP 38")
    before = page.locator("#ratio").inner_text()
    page.get_by_role("slider", name="QP").press("PageUp")
    expect(page.locator("#picture-status")).not_to_contain_text("at QP 38")
    expect(page.locator("#picture-status")).to_contain_text(f"at QP {page.locator('#qp-value').inner_text()}")
    first, then = (float(re.findall(r"[\d.]+", text)[0]) for text in (before, page.locator("#ratio").inner_text()))
    assert 1 < first < then


def test_what_cannot_be_shown_is_said(server: Running, watch: Callable[..., Watched]) -> None:
    page = watch(server.url, expected=(UNAUTHORIZED,)).page
    error = page.get_by_role("alert").filter(has_text=re.compile("."))
    drop(page, "notes.txt", "text/plain", b"hello")
    expect(error).to_have_text("notes.txt is not a JPEG, PNG or WebP picture. Choose another file.")
    drop(page, "broken.jpg", "image/jpeg", b"\xff\xd8\xff no picture")
    expect(error).to_contain_text("broken.jpg: not a readable picture")
    expect(page.locator("#result")).to_be_hidden()


@pytest.mark.slow
def test_the_page_says_that_the_server_is_gone_and_comes_back(
    codec: FeatureCodec,
    watch: Callable[..., Watched],
    street: list[bytes],
    photo: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running(codec, Settings(workers=1)) as first:
        page = watch(first.url, expected=(REFUSED,)).page
        connected(page)
        with first.open("/v1/stream?source=gate") as camera:
            camera.send(frame(0, street[0]))
            camera.recv(timeout=60)
            expect(page.get_by_role("article", name="gate")).to_be_visible()
            first.end()
            first.thread.join(60)
    expect(page.get_by_role("status").filter(has_text="The server is gone")).to_be_visible()
    expect(page.locator("#gone")).to_contain_text("What you see below is old")
    page.get_by_role("button", name="Try now").click()
    drop(page, "street.jpg", "image/jpeg", photo)
    expect(page.locator("#picture-error")).to_have_text(
        "The server cannot be reached. The picture is sent when it is back."
    )
    monkeypatch.setattr("running.listen", lambda host, _: listen(host, first.address[1]))
    with running(codec, Settings(workers=1)):
        connected(page)  # by itself
        expect(page.locator("#gone")).to_be_hidden()
        expect(page.locator("#picture-status")).to_contain_text("street.jpg at QP 38")
        expect(page.get_by_role("article")).to_have_count(0)


def test_a_token_is_asked_for_kept_in_the_tab_and_in_no_address(
    codec: FeatureCodec, watch: Callable[..., Watched], photo: bytes
) -> None:
    with running(codec, Settings(workers=1, token=TOKEN)) as server:
        watched = watch(server.url)
        page = watched.page
        field = page.get_by_label("Token", exact=True)
        expect(field).to_be_focused()
        expect(page.get_by_role("status").filter(has_text="The server asks for a token")).to_be_visible()
        page.keyboard.type("not a token")
        page.keyboard.press("Enter")
        expect(page.locator("#token-error")).to_contain_text("1 to 200 letters")
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-error")).to_have_text(
            "The server does not know this token. Check it, and try again."
        )
        field.fill(TOKEN)
        page.keyboard.press("Enter")
        connected(page)
        expect(page.locator("#token-form")).to_be_hidden()
        expect(page.locator("#command-token")).to_contain_text("FEATCODEC_TOKEN")
        drop(page, "street.jpg", "image/jpeg", photo)
        expect(page.locator("#picture-status")).to_contain_text("street.jpg at QP 38")
        page.reload()
        connected(page)
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert not any("esame" in address for address in watched.asked)
        page.get_by_role("button", name="Forget the token").click()
        expect(field).to_be_focused()
        assert page.evaluate("sessionStorage.length") == 0


def test_everything_can_be_done_with_the_keyboard(
    server: Running, watch: Callable[..., Watched], photo: bytes, tmp_path: Any
) -> None:
    (tmp_path / "street.jpg").write_bytes(photo)
    page = watch(server.url).page
    page.on("filechooser", lambda _: None)  # from now on, the browser opens none of its own
    connected(page)
    seen = []
    for _ in range(8):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        outline = page.evaluate("""() => {
          const at = document.activeElement, shown = at.id === "file" ? document.querySelector("label[for=file]") : at;
          return parseFloat(getComputedStyle(shown).outlineWidth);
        }""")
        assert outline >= 2, f"the focus on {seen[-1]} is not visible"
        if seen[-1] == "score":
            page.keyboard.press("ArrowRight")
            expect(page.locator("#score-value")).to_have_text("0.45")
        if seen[-1] == "file":
            with page.expect_file_chooser() as chooser:
                page.keyboard.press("Enter")
            chooser.value.set_files(tmp_path / "street.jpg")
            expect(page.locator("#result")).to_be_visible()
    command = page.locator("#command").inner_text()
    assert seen == ["Skip to the content", "score", command, "try a picture", "file", "qp", "API", "Metrics"]
    page.keyboard.press("Home")
    page.get_by_text("Skip to the content").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_roles_and_names_for_those_who_hear_the_page(
    server: Running, watch: Callable[..., Watched], street: list[bytes]
) -> None:
    page = watch(server.url).page
    with server.open("/v1/stream?source=North%20gate") as camera:
        camera.send(frame(0, street[0]))
        expect(page.locator(".card .list")).to_contain_text("car")
        expect(page.locator(".intercepted")).to_be_visible()
        expect(page.locator("body")).to_match_aria_snapshot("""
            - link "Skip to the content"
            - banner:
              - paragraph: featcodec scenes
              - paragraph:
                - status: Connected
            - main:
              - region "Objects found, and no picture sent":
                - heading "Objects found, and no picture sent" [level=1]
                - list:
                  - listitem
                  - listitem
                  - listitem
                - heading "One camera" [level=2]
                - text: Least score
                - slider "Least score"
                - status: North gate is connected
                - article "North gate":
                  - heading "North gate" [level=3]
                  - img "Bit rate of the last minute"
                  - figure "What the server finds":
                    - img /car/
                  - figure "What an interceptor sees":
                    - img "What an attacker reconstructs from the stream of North gate"
              - region "Try a picture":
                - heading "Try a picture" [level=2]
                - paragraph:
                  - button "Choose a picture"
                - slider "QP"
            - contentinfo
        """)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(
    codec: FeatureCodec, watch: Callable[..., Watched], street: list[bytes], photo: bytes, scheme: str
) -> None:
    with running(codec, Settings(workers=1, token=TOKEN)) as server:
        page = watch(server.url, expected=(REFUSED,), color_scheme=scheme, reduced_motion="reduce").page
        page.get_by_label("Token", exact=True).fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-error")).to_contain_text("does not know")
        assert page.evaluate(LOW_CONTRAST) == []
        page.get_by_label("Token", exact=True).fill(TOKEN)
        page.keyboard.press("Enter")
        connected(page)
        assert page.evaluate(LOW_CONTRAST) == []
        with server.open("/v1/stream?source=gate", additional_headers={"Authorization": f"Bearer {TOKEN}"}) as camera:
            camera.send(frame(0, street[0]))
            expect(page.locator(".card .list")).to_contain_text("car")
            drop(page, "street.jpg", "image/jpeg", photo)
            expect(page.locator("#result")).to_be_visible()
            assert page.evaluate(LOW_CONTRAST) == []
        expect(page.locator(".fresh")).to_have_text("Disconnected")
        assert page.evaluate(LOW_CONTRAST) == []
    expect(page.locator("#gone")).to_be_visible()
    drop(page, "notes.txt", "text/plain", b"hello")
    assert page.evaluate(LOW_CONTRAST) == []
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 384) == (scheme == "light")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_eight_cameras_fit_at_every_width(
    server: Running, watch: Callable[..., Watched], street: list[bytes], width: int
) -> None:
    page = watch(server.url, viewport={"width": width, "height": 800}).page
    connected(page)
    names = [f"camera {number}" + " with a long name" * (number == 7) for number in range(8)]
    with ExitStack() as cameras:
        for name in names:
            camera = cameras.enter_context(server.open(f"/v1/stream?source={name.replace(' ', '%20')}"))
            camera.send(frame(0, street[0]))
        expect(page.get_by_role("article")).to_have_count(8)
        expect(page.get_by_role("heading", name="8 cameras")).to_be_visible()
        assert page.get_by_role("article").get_by_role("heading").all_inner_texts() == names
        expect(page.locator("#total-found")).to_have_text(re.compile("objects"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        outside = page.evaluate("""() => [...document.querySelectorAll("main *, header *")]
          .filter((e) => e.checkVisibility() && !e.closest("pre, .hidden"))
          .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
          .map((e) => e.className || e.tagName)""")
        assert outside == []


def test_nothing_moves_for_those_who_do_not_want_it(server: Running, watch: Callable[..., Watched]) -> None:
    for preference, moves in (("reduce", False), ("no-preference", True)):
        page = watch(server.url, reduced_motion=preference).page
        connected(page)
        page.evaluate("document.getElementById('state').dataset.state = 'connecting'")
        name = page.evaluate("getComputedStyle(document.querySelector('.dot')).animationName")
        assert (name != "none") == moves


def test_the_page_asks_for_nothing_outside_and_runs_no_script_of_others(
    server: Running, watch: Callable[..., Watched]
) -> None:
    watched = watch(server.url, expected=("Content Security Policy", "TrustedScript", "Trusted Type"))
    connected(watched.page)
    hosts = {re.sub(r"^\w+://([^/]+)/.*$", r"\1", address) for address in watched.asked}
    assert hosts == {server.url.removeprefix("http://")}
    for file in ("main.js", "styles.css", "icon.svg"):
        assert any(address.endswith(f"/page/{file}") for address in watched.asked)
    with pytest.raises(Exception, match="TrustedScript"):
        watched.page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: '1'}))")
    with pytest.raises(Exception, match="Failed to fetch"):
        watched.page.evaluate("fetch('http://127.0.0.1:9/')")


HOSTILE = "<img src=x onerror=alert(1)>"


def test_what_a_hostile_server_says_is_text(server: Running, browser: Browser) -> None:
    """A server that is not ours says what it wants: it is shown as text, or not at all."""
    box = {"bbox": [0, 0, 9, 9], "score": 0.9, "category_name": HOSTILE, "category_id": 1e308}
    shown = {"type": "frame", "source": HOSTILE, "width": 10, "height": 10, "detections": [box, None, {"bbox": "x"}]}
    messages = [
        json.dumps({"type": "hello", "detector": HOSTILE, "attacker": HOSTILE, "token": "yes", "names": 3}),
        json.dumps({**shown, "qp": "x", "bytes": -1, "latency_ms": None}).replace('": -1', '": -1e999'),
        json.dumps({**shown, "source": "flat", "width": 1e300, "height": 1}),
        *(json.dumps({**shown, "source": f"{number}" * 999}) for number in range(99)),
        "not JSON", "null", "[1]", '"text"', json.dumps({"type": "frame"}), json.dumps({"type": "__proto__"}),
        json.dumps({"type": "interceptor", "source": HOSTILE, "frame": 1, "jpeg": "javascript:alert(1)"}),
        json.dumps({"type": "gone", "source": "nobody"}),
    ]  # fmt: skip

    def lie(socket: WebSocketRoute) -> None:
        for message in messages:
            socket.send(message)
        socket.send(b"\x00\xff")

    context = browser.new_context()
    watched = Watched(context.new_page())
    page = watched.page
    page.route_web_socket(re.compile("/v1/live$"), lie)
    page.goto(server.url)
    card = page.get_by_role("article", name=HOSTILE, exact=True)
    expect(card).to_be_visible()
    expect(card.locator(".list")).to_have_text(f"1 × {HOSTILE}")
    expect(page.locator("#detector")).to_have_text(HOSTILE)
    assert re.fullmatch(r"featcodec stream VIDEO --to ws://[\d.:]+", page.locator("#command").text_content() or "")
    assert page.get_by_role("article").count() == 32
    expect(card.locator(".intercepted")).to_be_hidden()
    assert page.locator("img[src=x]").count() == 0
    context.close()
    assert watched.complaints == []
    assert not any(address.endswith("/x") for address in watched.asked)


def test_what_comes_after_the_end_of_a_camera_brings_no_card_back(
    server: Running, watch: Callable[..., Watched]
) -> None:
    """The server may still be at work on the last frames."""
    dot = io.BytesIO()
    Image.new("RGB", (8, 8)).save(dot, "JPEG")
    last = {"type": "frame", "source": "gate", "width": 10, "height": 10, "detections": []}
    seen = {"type": "interceptor", "source": "gate", "frame": 1, "jpeg": base64.b64encode(dot.getvalue()).decode()}
    page = watch("about:blank").page
    page.route_web_socket(
        re.compile("/v1/live$"),
        lambda socket: [
            socket.send(json.dumps(message))
            for message in ({"type": "hello"}, last, seen, {"type": "gone", "source": "gate"}, last, seen)
        ],
    )
    page.goto(server.url)
    expect(page.locator(".fresh")).to_have_text("Disconnected")
    expect(page.get_by_role("article")).to_have_count(0)


def test_a_tab_that_nobody_sees_lets_the_server_rest(server: Running, watch: Callable[..., Watched]) -> None:
    page = watch("about:blank").page
    page.clock.install()
    page.goto(server.url)
    connected(page)

    def turn(hidden: bool) -> None:
        page.evaluate(
            """(hidden) => {
          Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
            hidden,
        )

    turn(True)
    page.clock.fast_forward(31_000)
    expect(page.locator("#state-text")).to_have_text("Paused")
    turn(False)
    connected(page)


def test_a_missing_browser_is_a_failure_where_it_could_be_there(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Chromium"):
        find_browser()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.skip.Exception, match="no Chromium"):
        find_browser()
    for name in ("apt-get", "sudo"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(pytest.fail.Exception, match="could have installed"):
        find_browser()

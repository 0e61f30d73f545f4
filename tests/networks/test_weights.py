"""Where weights come from: a path, the package, the weights folder, a download that is checked or leaves nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from featcodec.detectors import load_detector
from featcodec.errors import WeightsError
from featcodec.networks import catalogue, download
from featcodec.networks.catalogue import SHIPPED_DETECTORS
from featcodec.networks.weights import KNOWN, is_intact, list_models, locate_weights

CONTENT = b"weights of a detector" * 100


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $FEATCODEC_HOME; the working directory is elsewhere."""
    monkeypatch.setenv("FEATCODEC_HOME", str(tmp_path / "home"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for proxy in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path / "home"


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A local server that answers every request with CONTENT, except as its paths say; its URL and its log."""
    asked: list[str] = []
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path, _, more = self.path.partition("?")
            if more == "put":  # somebody copies the right file to its place while this answer is on its way
                stored = put(Path(os.environ["FEATCODEC_HOME"]) / "weights/yolov5n.pt", CONTENT)
                os.utime(stored, (1, 1))
            if more == "redirected":
                self.send_response(302)
                self.send_header("Location", path)
                self.end_headers()
                return
            if path == "/silent":
                stop.wait(20)
                return
            content = {"/page": b"<html>Please log in.</html>", "/empty": b""}.get(path, CONTENT)
            content = Path(more).read_bytes() if path == "/file" else content
            self.send_response(404 if path == "/absent" else 200)
            if path not in ("/endless", "/drip") and more != "unmeasured":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client may have left
                self.wfile.write(content[: len(content) // 2 if path == "/cut" else None])
                while path in ("/endless", "/drip") and not stop.wait(0 if path == "/endless" else 0.2):
                    self.wfile.write(b"x" if path == "/drip" else CONTENT)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", asked
        stop.set()
        http.shutdown()
        thread.join()


def place(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes | None = CONTENT, name: str = "yolov5n") -> None:
    """Let a known detector come from this URL, pinned to this content."""
    sha256 = None if content is None else hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(KNOWN, name, dataclasses.replace(KNOWN[name], url=url, sha256=sha256))


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.usefixtures("home")
def test_known_detectors_are_complete() -> None:
    expected = {f"yolov5{size}{form}" for size in "nsmlx" for form in ("", "u", "6u")}
    for family in ("yolov8", "yolo11", "yolo26"):
        expected |= {f"{family}{size}{task}" for size in "nsmlx" for task in ("", "-seg", "-pose")}
    for family, sizes in (("yolo12", "nsmlx"), ("yolov9", "tsmce"), ("yolov10", "nsmblx")):
        expected |= {f"{family}{size}" for size in sizes}
    assert set(KNOWN) == expected | {"yolov9c-seg", "yolov9e-seg"}
    for name, known in KNOWN.items():
        assert known.name == name
        assert known.url.startswith("https://github.com/ultralytics/")
        assert known.url.endswith(f"/{name}.pt")
        assert known.licence == "AGPL-3.0"
        assert known.sha256 is None or (len(known.sha256) == 64 and int(known.sha256, 16))


def test_real_weights_have_the_pinned_hash(yolov5n_path: Path) -> None:
    assert hashlib.sha256(yolov5n_path.read_bytes()).hexdigest() == KNOWN["yolov5n"].sha256


def test_explicit_path_comes_first(home: Path) -> None:
    put(home / "weights" / "yolov5n.pt")
    here = put(Path("yolov5n.pt"))
    assert locate_weights("yolov5n.pt") == here
    assert locate_weights(here.resolve()) == here.resolve()
    named = put(Path("yolov5n"))
    assert locate_weights("yolov5n") == named


@pytest.mark.parametrize("name", ["yolov5n", "yolov5n.pt"])
def test_weights_folder_comes_second(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, "http://127.0.0.1:9/refused")
    stored = put(home / "weights" / "yolov5n.pt")
    with pytest.raises(WeightsError, match="wrong sha256"):
        locate_weights(name)
    put(stored, CONTENT)
    assert locate_weights(name) == stored


@pytest.mark.parametrize("name", ["mine", "mine.pt"])
def test_own_weights_in_the_folder_have_a_name_too(home: Path, name: str) -> None:
    stored = put(home / "weights" / "mine.pt")
    assert locate_weights(name) == stored


@pytest.mark.parametrize("name", ["mine", "mine.safetensors"])
def test_own_safetensors_in_the_folder_have_a_name_too(home: Path, name: str) -> None:
    stored = put(home / "weights" / "mine.safetensors")
    assert locate_weights(name) == stored
    with pytest.raises(WeightsError, match=r"mine\.pt: neither a file nor a known detector"):
        locate_weights("mine.pt")
    other = put(home / "weights" / "mine.pt")
    assert locate_weights("mine") == other
    assert locate_weights("mine.safetensors") == stored


def test_shipped_detectors_are_in_the_package(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SHIPPED_FOLDER", tmp_path / "shipped")
    with pytest.raises(WeightsError) as caught:
        locate_weights("scenes")
    path = tmp_path / "shipped/scenes-detector.safetensors"
    assert str(caught.value).startswith(f"{path}: the weights of scenes are missing, but they ship with featcodec;")
    assert "\n" not in str(caught.value)
    assert list_models()[0]["weights"] == "missing"
    put(home / "weights" / "scenes.pt")
    put(path)
    assert locate_weights("scenes") == path
    assert (list_models()[0]["name"], list_models()[0]["weights"]) == ("scenes", "ships with featcodec")
    here = put(Path("scenes"))
    assert locate_weights("scenes") == here


def test_names_are_given_once() -> None:
    assert SHIPPED_DETECTORS.keys().isdisjoint(KNOWN)
    assert [model["name"] for model in list_models()] == [*SHIPPED_DETECTORS, *KNOWN]


def test_download_comes_last_and_once(
    home: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = server
    place(monkeypatch, f"{url}/w")
    for _ in range(2):
        path = locate_weights("yolov5n")
        assert path == home / "weights" / "yolov5n.pt"
        assert path.read_bytes() == CONTENT
    assert asked == ["/w"]
    assert files(home) == ["yolov5n.pt"]


def test_a_file_that_somebody_puts_there_meanwhile_stays(
    home: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a failed download, and before a download that ends well."""
    stored = home / "weights/yolov5n.pt"
    for path in ("/absent", "/w"):
        stored.unlink(missing_ok=True)
        place(monkeypatch, f"{server[0]}{path}?put")
        before = len(server[1])
        assert locate_weights("yolov5n") == stored
        assert stored.read_bytes() == CONTENT
        assert stored.stat().st_mtime == 1, "it was replaced"
        assert len(server[1]) == before + 1
    assert files(home) == ["yolov5n.pt"]


@pytest.mark.parametrize("path", ["/page", "/page?redirected", "/cut?unmeasured", "/empty"])
def test_a_download_that_does_not_load_is_not_kept(
    home: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    place(monkeypatch, server[0] + path, None, "yolov5mu")
    with pytest.raises(WeightsError, match="yolov5mu is not on this machine and cannot be downloaded") as caught:
        load_detector("yolov5mu")
    assert str(home / "weights/yolov5mu.pt") in str(caught.value)
    assert ".part" not in str(caught.value)
    assert files(home) == []


def test_a_download_that_loads_is_kept(
    home: Path, tiny_yolov5u: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = put(Path("served.pt"), tiny_yolov5u.read_bytes())
    place(monkeypatch, f"{server[0]}/file?{served.resolve()}", None, "yolov5mu")
    for _ in range(2):
        assert len(load_detector("yolov5mu").names) == 3
    assert (home / "weights/yolov5mu.pt").read_bytes() == served.read_bytes()
    assert len(server[1]) == 1


def test_a_page_that_an_older_version_kept_is_said(home: Path) -> None:
    put(home / "weights/yolov5su.pt", b"<html>log in</html>")
    with pytest.raises(WeightsError, match=r"yolov5su.pt: not the yolov5su .*web page\); delete it"):
        locate_weights("yolov5su")
    states = {model["name"]: model["weights"] for model in list_models()}
    assert states["yolov5su"] == "damaged (it is cut off, or a web page)"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/endless", "got more than 1 MiB"), ("/drip", "not complete after"), ("/silent", "ReadTimeout|ConnectionError")],
)
def test_a_server_without_end_or_answer_is_left(
    home: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, path: str, reason: str
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(download, "_SILENCE_SECONDS", 1)
    monkeypatch.setattr(download, "_LONGEST_SECONDS", 2.5)
    place(monkeypatch, server[0] + path)
    with pytest.raises(WeightsError, match=reason):
        locate_weights("yolov5n")
    assert files(home) == []


def test_two_downloads_at_once_both_end_well(
    home: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place(monkeypatch, f"{server[0]}/w")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(locate_weights, ["yolov5n"] * 4))
    assert found == [home / "weights/yolov5n.pt"] * 4
    assert found[0].read_bytes() == CONTENT
    assert files(home) == ["yolov5n.pt"]


@pytest.mark.parametrize(("path", "pinned"), [("/w", b"other content"), ("/absent", CONTENT), ("/cut", CONTENT)])
def test_bad_download_is_not_kept(
    home: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, path: str, pinned: bytes
) -> None:
    place(monkeypatch, server[0] + path, pinned)
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        locate_weights("yolov5n")
    assert files(home) == []


def test_failed_download_says_what_to_put_where(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, "http://127.0.0.1:9/nobody/listens.pt")
    with pytest.raises(WeightsError) as caught:
        locate_weights("yolov5n")
    message = str(caught.value)
    assert "http://127.0.0.1:9/nobody/listens.pt" in message
    assert str(home / "weights" / "yolov5n.pt") in message
    assert "`detector`" in message
    assert "\n" not in message


def test_folder_that_cannot_be_made_is_no_crash(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, "http://127.0.0.1:9/w")
    home.write_text("a file in the way")
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        locate_weights("yolov5n")


@pytest.mark.parametrize("name", ["yolov99n", "yolov5", "", "yolov5n.onnx", "nowhere/mine.pt", "x" * 5000, "a\0b"])
def test_unknown_name_says_what_known_ones_look_like(name: str) -> None:
    with pytest.raises(WeightsError) as caught:
        locate_weights(name)
    assert str(caught.value).endswith("a name such as scenes, scenes11, yolov5n, yolov8s, yolo11n or yolo26m")


def test_missing_path_to_known_weights_is_not_downloaded(server: tuple[str, list[str]], home: Path) -> None:
    with pytest.raises(WeightsError, match=r"weights/yolov5n\.pt: neither a file|no such file"):
        locate_weights("weights/yolov5n.pt")
    assert server[1] == []
    assert not home.exists()


def test_name_does_not_leave_the_weights_folder(home: Path) -> None:
    put(home / "secret.pt")
    with pytest.raises(WeightsError):
        locate_weights("../secret.pt")


def test_is_intact(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, "http://127.0.0.1:9/w")
    put(home / "weights" / "yolov5n.pt", CONTENT)
    assert is_intact(KNOWN["yolov5n"])
    put(home / "weights" / "yolov5n.pt", CONTENT[:-1])
    assert not is_intact(KNOWN["yolov5n"])


def test_list_models_tells_present_missing_and_damaged(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, "http://127.0.0.1:9/w", name="yolov5s")
    put(home / "weights" / "yolov5s.pt", CONTENT)
    put(home / "weights" / "yolov5m.pt", b"not the weights")
    states = {model["name"]: model["weights"] for model in list_models()}
    assert states["yolov5s"] == "present"
    assert states["yolov5m"].startswith("damaged")
    assert states["yolov5n"] == "missing"
    assert {model["folder"] for model in list_models() if model["name"] in KNOWN} == {str(home / "weights")}

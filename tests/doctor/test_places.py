"""Where records go: space, a store that opens, a server that answers."""

import http.server
import shutil
import threading
import types

import pytest

from slm_energy.config.groups import TrackingConfig
from slm_energy.doctor.places import disk, store
from slm_energy.store.tracking import Store


def at(folder, uri=None):
    return TrackingConfig(name="test", folder=str(folder), uri=uri)


@pytest.mark.parametrize(
    ("free_gb", "verdict", "said"),
    [(50, "ok", "50.0 GB free"), (1, "warn", "1.0 GB free"), (0.05, "fail", "0.1 GB free")],
)
def test_free_space_is_that_of_the_disk_the_folder_will_be_on(
    tmp_path, monkeypatch, free_gb, verdict, said
):
    asked = []

    def usage(place):
        asked.append(place)
        return types.SimpleNamespace(free=round(free_gb * 1e9))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    found = disk(at(tmp_path / "deep" / "mlruns"))
    assert found.verdict == verdict
    assert said in found.detail
    assert asked == [tmp_path]


def test_a_store_that_is_not_there_yet_is_not_created(tmp_path):
    found = store(at(tmp_path / "deep" / "mlruns"))
    assert found.verdict == "ok"
    assert "none yet" in found.detail
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "mlruns").write_text("")
    found = store(at(tmp_path / "mlruns"))
    assert found.verdict == "fail"
    assert str(tmp_path / "mlruns") in found.detail


def test_a_store_that_opens(tmp_path):
    Store(at(tmp_path))
    found = store(at(tmp_path))
    assert (found.verdict, found.detail) == ("ok", f"sqlite:///{tmp_path}/mlflow.db opens")


def test_a_damaged_store_fails_with_the_reason(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    found = store(at(tmp_path))
    assert found.verdict == "fail"
    assert "not a database" in found.detail
    assert "tracking.folder=DIR" in found.remedy


@pytest.fixture
def server():
    """An HTTP server that has no experiments, in MLflow's words."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            known = self.path == "/api/2.0/mlflow/experiments/search"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(b"{}" if known else b"no such page")

        def log_message(self, *words):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_answers(tmp_path, server):
    assert store(at(tmp_path, f"{server}/")).verdict == "ok"


def test_a_server_that_is_no_mlflow(tmp_path, server):
    found = store(at(tmp_path, f"{server}/elsewhere"))
    assert found.verdict == "fail"
    assert "not an MLflow server (HTTP 404)" in found.detail
    assert found.remedy == "check tracking.uri"


def test_a_server_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found = store(at(tmp_path, "http://127.0.0.1:9"))
    assert found.verdict == "fail"
    assert found.detail.endswith("http://127.0.0.1:9: connection failed (Connection refused)")
    assert found.remedy.startswith("start the server")

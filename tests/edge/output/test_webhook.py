from __future__ import annotations

import base64
import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from culling.common.detections import Batch
from culling.edge.output.sink import DownError, RefusedError
from support.clock import FakeClock
from support.outputs import Certificate, HttpsServer, Working, batch, certificate, settings, sink
from support.site import free_port
from support.waiting import wait_until


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(tls: Certificate) -> Iterator[HttpsServer]:
    server = HttpsServer(tls=tls)
    yield server
    server.close()


def hook(server: HttpsServer, tls: Certificate, **told: Any) -> Any:
    return sink(settings("webhook", **{"url": server.url, "ca_file": tls.cert, "batch_s": 0.02, **told}), FakeClock())


def test_batches_arrive_signed_and_named(server: HttpsServer, tls: Certificate) -> None:
    opened = hook(server, tls, secret="hunter2")
    opened.open()
    opened.send(batch(3))
    opened.send(batch(1, first=3, name="batch-2"))
    opened.close()
    first, second = server.requests
    assert msgspec.json.decode(first.body, type=Batch) == batch(3)
    assert (first.headers["webhook-id"], second.headers["idempotency-key"]) == ("batch-1", "batch-2")
    signed = f"batch-1.{first.headers['webhook-timestamp']}.".encode() + first.body
    digest = base64.b64encode(hmac.digest(b"hunter2", signed, hashlib.sha256)).decode()
    assert first.headers["webhook-signature"] == f"v1,{digest}"
    assert b"hunter2" not in first.body


def test_a_key_of_standard_webhooks_is_decoded_and_a_user_logs_in(server: HttpsServer, tls: Certificate) -> None:
    key = base64.b64encode(b"0123456789").decode()
    url = server.url.replace("//", "//user:pass%2Fword@") + "?room=1"
    opened = hook(server, tls, secret=f"whsec_{key}", url=url)
    assert "takes batches" in opened.check()
    [request] = server.requests
    signed = f"check.{request.headers['webhook-timestamp']}.".encode() + request.body
    assert request.headers["webhook-signature"].endswith(
        base64.b64encode(hmac.digest(b"0123456789", signed, hashlib.sha256)).decode()
    )
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"user:pass/word"
    assert request.path == "/hook?room=1"
    assert request.records == []


def test_a_batch_that_fails_is_sent_again_under_its_id_until_it_is_taken(server: HttpsServer, tls: Certificate) -> None:
    codes = iter([503, 429, 404, 500])
    server.answer = lambda request: next(codes, 200)
    working = Working(hook(server, tls))
    working.offer(5)
    working.wait_for(5)
    assert Counter(request.headers["webhook-id"] for request in server.requests).most_common(1)[0][1] == 5
    assert sorted(set(server.sequences())) == list(range(5))
    working.close()


def test_a_batch_that_the_server_calls_wrong_is_dropped(server: HttpsServer, tls: Certificate) -> None:
    server.answer = lambda request: 422
    working = Working(hook(server, tls))
    working.offer(2)
    wait_until(lambda: sum(working.dropped.values()) == 2)
    assert working.dropped == {"refused": 2}
    assert "the server answers 422" in working.outlet._refusal
    working.close()


def test_a_server_says_how_long_to_wait(server: HttpsServer, tls: Certificate) -> None:
    opened = hook(server, tls)
    opened.open()
    for header, pause in (("7", 7.0), ("9999999", 300.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0)):
        server.answer = lambda request, header=header: (503, {"Retry-After": header})
        with pytest.raises(DownError) as raised:
            opened.send(batch())
        assert raised.value.after_s == pause
    opened.close()


def test_a_server_that_leads_elsewhere_is_down_since_nothing_is_sent_where_no_setting_says(
    server: HttpsServer, tls: Certificate
) -> None:
    server.answer = lambda request: (302, {"Location": "http://elsewhere/?token=hunter2"})
    with pytest.raises(DownError, match="302 Found: set url") as raised:
        hook(server, tls).check()
    assert "hunter2" not in str(raised.value)


def test_a_server_that_closes_after_each_answer_loses_nothing(server: HttpsServer, tls: Certificate) -> None:
    server.answer = lambda request: (200, {"Connection": "close"})
    opened = hook(server, tls)
    opened.open()
    for number in range(4):
        opened.send(batch(1, first=number))
    opened.close()
    assert server.sequences() == [0, 1, 2, 3]


def test_a_server_that_stalls_loses_only_its_own_records_and_has_them_when_it_wakes(
    server: HttpsServer, tls: Certificate
) -> None:
    server.stall.clear()
    working = Working(hook(server, tls, timeout_s=0.2, queue=50))
    working.offer(100)
    wait_until(lambda: "no answer in time" in working.outlet.problem)
    working.offer(100, first=100)
    assert working.dropped["queue-full"] >= 50
    server.stall.set()
    wait_until(lambda: 199 in server.sequences())
    working.close()


def test_a_server_that_dies_and_comes_back_gets_what_was_kept(tls: Certificate) -> None:
    server = HttpsServer(tls=tls)
    working = Working(hook(server, tls))
    working.offer(1)
    working.wait_for(1)
    server.close()
    working.offer(20, first=1)
    wait_until(lambda: bool(working.outlet.problem))
    again = HttpsServer(tls=tls, port=server.port)
    working.wait_for(21)
    assert sorted(set(server.sequences() + again.sequences())) == list(range(21))
    assert working.dropped == {}
    working.close()
    again.close()


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(server: HttpsServer) -> None:
    with pytest.raises(DownError, match=r"its certificate is not trusted .*: set ca_file"):
        sink(settings("webhook", url=server.url)).check()


def test_nobody_there_is_down_and_neither_a_token_nor_a_password_is_told() -> None:
    url = f"https://user:hunter2@127.0.0.1:{free_port()}/hooks/hunter3?token=hunter4"
    with pytest.raises(DownError, match=r"https://127.0.0.1:\d+: Connection refused") as raised:
        sink(settings("webhook", url=url)).check()
    assert "hunter" not in str(raised.value)


def test_a_wrong_batch_is_refused_by_name(server: HttpsServer, tls: Certificate) -> None:
    server.answer = lambda request: 400
    opened = hook(server, tls)
    opened.open()
    with pytest.raises(RefusedError, match="answers 400"):
        opened.send(batch())
    opened.close()

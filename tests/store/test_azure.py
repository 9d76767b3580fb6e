"""The object store in Blob Storage: the same suite as any other, and addresses that carry their own permission."""

from __future__ import annotations

import asyncio
import time

import pytest
import urllib3
from tests.azurite import Azurite

from farshore.agent.http_link import HttpLink
from farshore.core import digest as digests
from farshore.core.errors import Conflict, Denied, Invalid, NotFound
from farshore.store.objects import Objects

DATA = bytes(range(256)) * 4096
DIGEST = digests.of(DATA)
ABSENT = digests.of(b"absent")


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    with Azurite(tmp_path_factory.mktemp("azurite")) as found:
        yield found


@pytest.fixture
def store(azurite, monkeypatch, tmp_path, request):
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    made = Objects.open(f"{azurite.container(f'c{abs(hash(request.node.name))}')}/some/prefix")
    path = tmp_path / "spool"
    path.write_bytes(DATA)
    made.put(DIGEST, path)
    return made


@pytest.fixture
def link():
    made = HttpLink("https://hub.example", None)
    yield made
    made.close()


def read(body):
    pieces = list(iter(lambda: body.read(65536), b""))
    body.close()
    return b"".join(pieces)


def test_what_was_put_comes_back_whole_and_in_parts(store, tmp_path):
    assert store.size(DIGEST) == len(DATA)
    assert b"".join(store.chunks(DIGEST)) == DATA
    assert b"".join(store.chunks(DIGEST, 5, 77)) == DATA[5:77]
    with store.local(DIGEST, tmp_path) as local:
        assert local.read_bytes() == DATA

    async def some():
        return b"".join([piece async for piece in store.stream(DIGEST, 3, len(DATA) - 1)])

    assert asyncio.run(some()) == DATA[3:-1]
    assert [digest for digest, _ in store.stored()] == [DIGEST]
    store.remove(DIGEST)
    with pytest.raises(NotFound):
        store.size(DIGEST)


@pytest.mark.parametrize("start", [0, 1, 65536, len(DATA) - 1])
def test_a_signed_address_gives_the_object_from_any_byte(store, link, start):
    body = link.fetch(store.address(DIGEST, 60), start)
    assert (body.start, body.total) == (start, len(DATA))
    assert read(body) == DATA[start:]


def test_an_address_is_for_its_object_and_its_time_and_for_reading(store, link):
    good = store.address(DIGEST, 60)
    with pytest.raises(Denied):
        link.fetch(good.replace(digests.hex_of(DIGEST), digests.hex_of(ABSENT)), 0)
    with pytest.raises(Denied):
        link.fetch(good.replace("se=2", "se=3"), 0)
    with pytest.raises(Denied):
        link.fetch(good.partition("?")[0], 0)
    with pytest.raises(NotFound):
        link.fetch(store.address(ABSENT, 60), 0)
    with pytest.raises(Conflict):
        link.fetch(good, len(DATA))
    assert urllib3.request("PUT", good, body=b"x", headers={"x-ms-blob-type": "BlockBlob"}).status == 403
    short = store.address(DIGEST, 1)
    for _ in range(100):
        try:
            link.fetch(short, 0).close()
        except Denied:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the address never ran out")
    assert read(link.fetch(good, 0)) == DATA


def test_the_rest_of_an_object_that_was_replaced_is_not_fetched(store, link, tmp_path):
    link.fetch(store.address(DIGEST, 60), 0).close()
    path = tmp_path / "other"
    path.write_bytes(bytes(len(DATA)))
    store.put(DIGEST, path)
    with pytest.raises(Denied):
        link.fetch(store.address(DIGEST, 60), 1000)
    assert read(link.fetch(store.address(DIGEST, 60), 1000)) == bytes(len(DATA) - 1000)  # the digest decides


def test_a_folder_signs_nothing(tmp_path):
    with pytest.raises(Invalid, match="az://"):
        Objects.open(str(tmp_path / "objects")).address(DIGEST, 60)

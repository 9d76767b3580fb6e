"""Several pictures in one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.serve import multipart

from .conftest import Client, Device, picture, serve

KIND = b"multipart/form-data; boundary=xyz"


def form(*files: bytes, boundary: str = "xyz") -> bytes:
    parts = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="p{n}"; filename="{n}.jpg"\r\n'.encode()
        + b"Content-Type: image/jpeg\r\n\r\n" + data + b"\r\n"
        for n, data in enumerate(files)
    )  # fmt: skip
    return parts + f"--{boundary}--\r\n".encode()


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5))
def test_files_come_out_as_they_went_in(files: list[bytes]) -> None:
    parts = multipart.parts_of(form(*files, boundary="3f9a-unlikely"), b'multipart/form-data; boundary="3f9a-unlikely"')
    assert [bytes(part.data) for part in parts] == files
    assert [part.name for part in parts] == [f"{n}.jpg" for n in range(len(files))]


@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from([b"--xyz", b"\r\n", b"--", b"a", b"\r\n\r\n", b"filename=a"])).map(b"".join)
)
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    for kind in (KIND, body):
        try:
            parts = multipart.parts_of(body, kind)
        except Invalid:
            continue
        assert 1 <= len(parts) <= multipart.MAX_PARTS


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        (form(b"a"), b"multipart/form-data", "boundary"),
        (form(b"a"), b"multipart/form-data; boundary=" + b"x" * 71, "boundary"),
        (b"preamble\r\n" + form(b"a"), KIND, "begin"),
        (form(b"a")[:-9], KIND, "last boundary"),
        (b"--xyz--", KIND, "no picture"),
        (b"--xyzx\r\n\r\na\r\n--xyz--", KIND, "malformed"),
        (b"--xyz\r\nContent-Disposition: form-data; name=top\r\n\r\n3\r\n--xyz--", KIND, "no file"),
        (b"--xyz\r\nX: " + b"x" * 9000 + b"; filename=a\r\n\r\na\r\n--xyz--", KIND, "header"),
        (form(*[b"a"] * 65), KIND, "more than 64"),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, kind: bytes, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        multipart.parts_of(body, kind)


def test_answers_come_in_order_each_with_its_own_fault(device: Device) -> None:
    digest = device.colours(7, activate=True)
    red, blue = picture((255, 0, 0)), picture((0, 0, 255))
    kind = {"Content-Type": KIND.decode()}

    async def main(client: Client) -> None:
        await client.ready()
        files = (red, b"no picture", blue, b"", red)
        status, headers, answers = await client.ask("POST", "/score?top=1", form(*files), kind)
        assert (status, headers["x-farshore-digest"]) == (200, digest)
        assert [answer["classes"][0]["class"] if "classes" in answer else answer["error"]["code"] for answer in answers] == [
            "red7", "invalid", "blue7", "invalid", "red7",
        ]  # fmt: skip
        assert {answer["version"] for answer in answers if "version" in answer} == {7}
        status, _, answers = await client.ask("POST", "/score", form(b"x", b"y"), kind)
        assert (status, [answer["error"]["code"] for answer in answers]) == (400, ["invalid"] * 2)
        for body, others in ((b"nonsense", {}), (form(red), {"Accept": "image/png"})):
            status, _, answer = await client.ask("POST", "/score", body, {**kind, **others})
            assert (status, answer["error"]["code"]) == (400, "invalid")
        assert client.server.pool.outstanding == 0

    serve(device, main)


def test_more_pictures_than_may_wait(device: Device) -> None:
    """Each picture takes a place in the queue; those for which there is none are told so, the others are answered."""
    device.colours(1, activate=True)

    async def main(client: Client) -> None:
        await client.ready()
        kind = {"Content-Type": KIND.decode()}
        status, _, answers = await client.ask("POST", "/score", form(*[picture((255, 0, 0))] * 20), kind)
        told = [answer["error"]["code"] if "error" in answer else "answered" for answer in answers]
        assert (status, len(told)) == (200, 20)
        assert set(told) == {"answered", "unavailable"}

    serve(device, main, queue=4, threads=1)


def test_a_client_that_goes_away_takes_all_of_them_along(device: Device) -> None:
    device.colours(1, activate=True)

    async def main(client: Client) -> None:
        await client.ready()
        body = form(*[picture((255, 0, 0), (2000, 2000))] * 40)
        _, writer = await client.connect()
        writer.write(
            f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: {KIND.decode()}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        writer.write(body)
        await writer.drain()
        from .conftest import until

        await until(lambda: client.server.pool.outstanding)
        writer.transport.abort()
        await until(lambda: not client.server.pool.outstanding)
        assert client.server.pool.models["colours"].counts.get(200, 0) < 40

    serve(device, main, threads=1)

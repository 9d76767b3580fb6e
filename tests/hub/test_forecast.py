"""What a version will cost on one device."""

from farshore.core.manifest import AcceptanceCase, Content, File, Manifest, Pipeline, Requirements, Variant
from farshore.core.wire import ReportedModel, Running
from farshore.hub.forecast import Facts, forecast, held, missing
from farshore.hub.records.ledger import Link


def digest(number):
    return f"sha256:{number:064x}"


def version(number, *variants, pictures=()):
    cases = tuple(AcceptanceCase(f"c{n}", File(f"{n}.jpg", digest(n), 100, "picture"), {}) for n in pictures)
    return Manifest("m", number, Content(variants, cases))


def variant(name, runtime, *files, memory=0):
    made = tuple(
        File(f"{one}.bin", digest(one), 1_000_000, "model" if at == 0 else "external") for at, one in enumerate(files)
    )
    return Variant(name, runtime, "fp32", made, (), (), Pipeline("tensors", "tensors"), Requirements(memory=memory))


ONE = version(1, variant("onnx", "onnxruntime", 1, 2), variant("tflite", "litert", 3))
TWO = version(2, variant("big", "onnxruntime", 4, memory=8000), variant("onnx", "onnxruntime", 5, 2), pictures=(9,))
LINK = Link("iridium", 6.5, "EUR", 16_000)


def facts(name="onnx", memory=4000, runtimes=("onnxruntime",)):
    return Facts(runtimes, memory, "x86_64", {"m": ReportedModel(current=Running(1, digest(101), name))})


def manifests(number):
    return {digest(101): ONE}.get(number)


def test_a_device_holds_the_files_of_its_own_variants():
    assert held(facts(), manifests) == {digest(1), digest(2)}
    assert held(facts("tflite"), manifests) == {digest(3)}
    assert held(facts(), lambda _: None) == frozenset()


def test_it_fetches_what_its_variant_lacks():
    assert {*missing(facts(), TWO, held(facts(), manifests))} == {digest(5), digest(9)}
    assert {*missing(facts(memory=8000), TWO, frozenset())} == {digest(4), digest(9)}
    assert missing(facts(runtimes=("litert",)), TWO, frozenset()) is None


def test_bytes_time_and_money():
    files = missing(facts(), TWO, held(facts(), manifests))
    found = forecast("d", facts(), files, {digest(5): 200_000}.get, LINK)
    assert (found.route, found.bytes, found.whole) == ("patch", 200_100, 1_000_100)
    assert (found.seconds, found.currency) == (200_100 / 16_000, "EUR")
    assert abs(found.money - 1.30065) < 1e-9
    assert forecast("d", facts(), files, lambda _: None, Link("")).route == "whole"
    assert forecast("d", facts(), {}, lambda _: None, LINK).route == "none"
    assert forecast("d", facts(), files, lambda _: 2_000_000, LINK).bytes == 1_000_100  # a patch larger than the file


def test_who_cannot_is_told_why():
    found = forecast("d", facts(runtimes=("litert",)), None, lambda _: None, LINK)
    assert (found.bytes, found.route) == (0, "none")
    assert "no variant fits it: it has litert, 4000 bytes of memory, x86_64" in found.trouble

"""Pages that take files say beforehand what can be done here, and what cannot."""

import pytest

from farshore.hub.director import Director
from farshore.hub.tryouts import Tryouts


def test_a_hub_that_signs_offers_to_make_versions(visitor, pushed):
    pushed()
    text = visitor.text("/studio/upload?model=detector")
    assert 'name="name" value="detector"' in text and "<option>detector</option>" in text
    assert 'data-signs="yes"' in text and "does not sign" not in text
    assert "farshore model push" in text  # for who has no scripts


def test_a_hub_without_the_publishers_key_says_who_publishes(visitor, monkeypatch):
    monkeypatch.setattr(Director, "development", property(lambda _: False))
    text = visitor.text("/studio/upload")
    assert 'data-signs="no"' in text and "does not sign for publishers" in text


@pytest.mark.parametrize(
    ("runtimes", "said"), [((), "pip install"), (("litert",), "there is litert"), (("onnxruntime",), 'id="drop"')]
)
def test_trying_out_says_what_it_needs(visitor, pushed, monkeypatch, runtimes, said):
    pushed()
    monkeypatch.setattr(Tryouts, "runtimes", staticmethod(lambda: runtimes))
    text = visitor.text("/studio/models/detector/versions/1/try")
    assert said in text
    assert ('id="drop"' in text) == (runtimes == ("onnxruntime",))


def test_names_stay_names_in_what_scripts_are_told(visitor):
    text = visitor.text("/studio/upload?model=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert "<script>alert" not in text and "&lt;script&gt;" in text

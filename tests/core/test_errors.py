"""Every error class has a code, a status and an exit code of its own meaning."""

from farshore.core import errors


def test_codes_are_unique_and_lead_back_to_their_class():
    for code, kind in errors.BY_CODE.items():
        again = errors.from_code(code, "why")
        assert type(again) is kind
        assert again.message == "why"
        assert 400 <= kind.status < 600
        assert 0 < kind.exit_code < 128
    assert set(errors.BY_CODE.values()) == _family(errors.FarshoreError)


def test_an_unknown_code_is_still_an_error():
    assert type(errors.from_code("from_the_future", "why")) is errors.FarshoreError


def _family(kind):
    """A class and those below it in this module; rooms may refine them, under the same codes."""
    below = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return {kind}.union(*(_family(child) for child in below))

from __future__ import annotations

from farshore.agent import device


def test_the_machine():
    assert device.memory() > 1 << 20
    assert device.machine()


def test_a_start_has_one_name(monkeypatch, tmp_path):
    assert device.boot() == device.boot()
    monkeypatch.setattr(device, "_BOOT", tmp_path / "absent")
    assert device.boot() == ""

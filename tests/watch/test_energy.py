"""The energy that a run takes, from counters that start again."""
from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from densessl.watch import energy
from densessl.watch.energy import Counter, EnergyMeter, processors


@pytest.fixture
def powercap(tmp_path):
    for name in ('intel-rapl:0', 'intel-rapl:1', 'intel-rapl:0:0'):     # the last is a part of 0
        (tmp_path / name).mkdir()
        (tmp_path / name / 'max_energy_range_uj').write_text('9000000\n')
        (tmp_path / name / 'energy_uj').write_text('5000000\n')
    (tmp_path / 'intel-rapl').mkdir()
    return tmp_path


def test_packages_are_summed_and_counts_start_again(powercap, monkeypatch):
    counters = processors(powercap)
    assert len(counters) == 2
    (powercap / 'intel-rapl:0' / 'energy_uj').write_text('8000000')
    (powercap / 'intel-rapl:1' / 'energy_uj').write_text('1000000')     # 4 J to 9 J, and 1 J
    assert [counter.since() for counter in counters] == [3.0, 5.0]
    assert [counter.since() for counter in counters] == [0.0, 0.0]


def test_a_meter_goes_on_from_what_was_spent_before(monkeypatch):
    spent = [0.0, 3.6e6, 7.2e6]

    def read():
        if not spent:
            raise OSError('gone')
        return spent.pop(0)

    monkeypatch.setattr(energy, 'processors', lambda: [Counter(read)])
    meter = EnergyMeter(before=0.5)
    assert meter.kwh() == pytest.approx(1.5) and meter.kwh() == pytest.approx(2.5)
    assert meter.kwh() is None       # the counter went away: a run goes on


def test_a_machine_that_counts_nothing_says_none(powercap, tmp_path, monkeypatch):
    monkeypatch.setattr(energy, 'POWERCAP', tmp_path / 'none')
    assert processors(tmp_path / 'none') == []
    (powercap / 'intel-rapl:0' / 'energy_uj').unlink()
    assert len(processors(powercap)) == 1
    monkeypatch.setattr(energy, 'processors', list)
    assert EnergyMeter(before=2.0).kwh() is None


def test_cards_count_in_thousandths_of_a_joule_until_they_are_gone(monkeypatch):
    counts = [1000, 4000]

    class Library(ModuleType):
        NVMLError = type('NVMLError', (Exception,), {})

        def nvmlInit(self):
            """Nothing to do."""

        def nvmlDeviceGetHandleByUUID(self, uuid):
            return uuid

        def nvmlDeviceGetTotalEnergyConsumption(self, handle):
            assert handle == 'GPU-abc'
            if not counts:
                raise self.NVMLError('lost')
            return counts.pop(0)

    monkeypatch.setitem(sys.modules, 'pynvml', Library('pynvml'))
    for name, value in {'is_available': True, 'device_count': 1,
                        'get_device_properties': SimpleNamespace(uuid='abc')}.items():
        monkeypatch.setattr(energy.torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(energy, 'processors', list)
    meter = EnergyMeter()
    assert meter.kwh() == pytest.approx(3 / 3.6e6)
    assert meter.kwh() is None

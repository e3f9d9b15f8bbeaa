"""Building what a file states: of registered parts alone, or a line that says why not."""
import sys

import pytest
import torch
from small_runs import provenance

from densessl.cli import main
from densessl.errors import UsageError
from densessl.weights.backbone_file import weights_hash
from densessl.weights.stated_backbone import build_stated, check_stated_backbone

# Each has a word that a layer looks up, in another argument than a type.
LOOKED_UP = [
    {'type': 'mmdet.ResNet', 'depth': 18, 'conv_cfg': {'type': 'ConvModule',
                                                       'padding_mode': 'boobytrap'}},
    {'type': 'mmseg.ResNet', 'depth': 18, 'norm_cfg': {
        'type': 'ConvModule', 'out_channels': 64, 'kernel_size': 1, 'padding_mode': 'boobytrap'}},
]


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """The file that importing the module ``boobytrap`` would leave."""
    (tmp_path / 'boobytrap.py').write_text(f'open({str(tmp_path / "trace")!r}, "w").close()\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / 'trace'
    sys.modules.pop('boobytrap', None)


@pytest.mark.parametrize('cfg', LOOKED_UP, ids=lambda cfg: list(cfg)[2])
def test_no_word_is_taken_for_a_module(cfg, trap, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_stated_backbone(cfg, tmp_path / 'b.pth')      # each of its words is plain
    with pytest.raises(UsageError, match='cannot be built'):
        build_stated(cfg, 'b.pth')
    state = {'conv1.weight': torch.zeros(2)}
    torch.save({'state_dict': state, 'meta': {**provenance(cfg), 'sha256': weights_hash(state)}},
               'b.pth')
    for command in (['probe', 'random', 'b.pth', '--data', '.', '--kind', 'knn'],
                    ['export', 'b.pth', '--out', 'o.pth', '--to', cfg['type'].partition('.')[0]]):
        assert main(command) == 2
        error, = capsys.readouterr().err.strip().splitlines()
        assert 'cannot be built: ' in error and not trap.exists()
    assert not trap.exists() and 'boobytrap' not in sys.modules


def test_configs_may_still_name_what_python_finds(trap):
    from mmengine.registry import MODELS
    with pytest.raises(UsageError):
        build_stated(LOOKED_UP[0], 'b.pth')
    assert MODELS.get('boobytrap') is not None and trap.exists()

"""A third party's transfer target: it builds backbones, takes weights and is checked like ours."""
import os
import subprocess
import sys

PLUGIN = '''
from densessl import TransferTarget, hookimpl

class Mirror(TransferTarget):
    """torchvision's ResNet-18 under keys of its own."""
    name = 'mirror'

    def build_backbone(self, name, **kwargs):
        import torch
        import torchvision

        class Body(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.body = torchvision.models.resnet18(**kwargs)
                del self.body.fc

            def forward(self, x):
                b, maps = self.body, []
                x = b.maxpool(b.relu(b.bn1(b.conv1(x))))
                for layer in (b.layer1, b.layer2, b.layer3, b.layer4):
                    x = layer(x)
                    maps.append(x)
                return tuple(maps)
        return Body()

    def layouts(self):
        from densessl.weights.keymap import KeyMap, Rename
        from densessl.weights.key_layouts import RESNET, Layout
        return [Layout(RESNET, KeyMap([Rename('body.{*}', '{*}')]),
                       lambda shape: {'type': 'mirror.resnet18'} if shape.depth == 18 else None)]

@hookimpl
def transfer_targets():
    return [Mirror]
'''


def test_a_third_partys_target_is_used_by_the_ordinary_commands(checkpoint18, tmp_path):
    (tmp_path / 'fake_mirror.py').write_text(PLUGIN)
    info = tmp_path / 'fake_mirror-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: dist-mirror\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[densessl]\nmirror = fake_mirror\n')
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, '-m', 'densessl.cli', 'export', str(checkpoint18), '--to', 'mirror',
         '--out', str(tmp_path / 'b.pth')],
        env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'mirror.resnet18(): 120 of 120 keys loaded; stages 1–4 of 4 compared' in done.stdout
    assert (tmp_path / 'b_mirror.pth').is_file()

"""MMDetection's packaged models take a training step and predict on the bridge's ops."""
import densessl.transfer.mmcv_ops  # noqa: F401  (first: mmdet settles for fallbacks without it)

# isort: split
import pathlib

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

PACKAGED = pathlib.Path(mmdet.__file__).parent / '.mim' / 'configs'
HEIGHT, WIDTH = 64, 96
NARROWER = 4  # a quarter of a ResNet-50's channels
CONFIGS = [
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'retinanet/retinanet_r50_fpn_1x_coco.py',
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'faster_rcnn/faster-rcnn_r50_fpn_soft-nms_1x_coco.py',
    'dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py',
    'dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py',
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    'dyhead/atss_r50_fpn_dyhead_1x_coco.py',
    'carafe/mask-rcnn_r50_fpn-carafe_1x_coco.py',
]


LIMITS = {  # wherever a config has the key
    'score_thr': 0.0,  # untrained scores are low, and nothing would reach the NMS
    'nms_pre': 50, 'max_per_img': 10,  # boxes before and after it
    'num': 32,  # sampled regions of an image
    'num_queries': 10, 'num_layers': 2,  # of a transformer
    'num_blocks': 1,  # of a DyHead
}


def shrink(config):
    """The detector with a narrow backbone, nothing pretrained and small heads."""
    config.backbone.base_channels = 64 // NARROWER
    neck = config.get('neck')
    for reader in (neck[0] if isinstance(neck, list) else neck, config.get('panoptic_head')):
        if reader is not None:
            reader.in_channels = [channels // NARROWER for channels in reader.in_channels]
    config.backbone.init_cfg = None
    config.backbone.zero_init_residual = False  # or its deformable convolutions get no gradient
    config.data_preprocessor.batch_augments = None  # Mask2Former would pad to 1024 × 1024
    return limit(config)


def limit(node):
    for key, value in node.items():
        if key in LIMITS:
            node[key] = LIMITS[key]
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ConfigDict):
                limit(child)
    return node


def batch():
    """Two random images, one with two objects and one with none."""
    samples = []
    for boxes in ([[8.0, 8, 40, 40], [30, 10, 80, 60]], []):
        masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[int(y1):int(y2), int(x1):int(x2)] = 1
        sample = DetDataSample(gt_instances=InstanceData(
            bboxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.arange(len(boxes)),
            masks=BitmapMasks(masks.numpy(), HEIGHT, WIDTH)), ignored_instances=InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)))
        sample.set_metainfo({'img_shape': (HEIGHT, WIDTH), 'ori_shape': (HEIGHT, WIDTH),
                             'scale_factor': (1.0, 1.0)})
        samples.append(sample)
    images = [torch.randint(256, (3, HEIGHT, WIDTH), dtype=torch.uint8) for _ in samples]
    return {'inputs': images, 'data_samples': samples}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.split('/')[-1].split('_')[0])
def test_trains_and_predicts(path):
    torch.manual_seed(0)
    init_default_scope('mmdet')
    model = MODELS.build(shrink(Config.fromfile(PACKAGED / path).model))
    model.init_weights()

    losses = model(**model.data_preprocessor(batch(), training=True), mode='loss')
    loss, terms = model.parse_losses(losses)
    assert [name for name, term in terms.items() if not term.isfinite()] == []
    loss.backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()
             if parameter.grad is not None}
    assert [name for name, grad in grads.items() if not grad.isfinite().all()] == []
    assert grads['backbone.layer4.0.conv2.weight'].count_nonzero() > 0

    model.eval()
    with torch.no_grad():
        results = model.test_step(batch())
    for result in results:
        assert len(result.pred_instances) > 0
        assert result.pred_instances.bboxes.isfinite().all()
        assert result.pred_instances.scores.isfinite().all()

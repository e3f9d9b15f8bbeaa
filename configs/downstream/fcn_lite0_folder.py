"""fcn_r18_folder on EfficientNet-Lite0: the same head and schedule, on its last map.

    densessl finetune downstream/fcn_lite0_folder --backbone backbone.pth --data-root DIR
    densessl finetune downstream/fcn_lite0_folder --backbone random --data-root DIR --fraction 0.1

Data      As in fcn_r18_folder.
Cost      As in fcn_r18_folder: about a minute of one CPU core.
Expected  No published figure. The last map has stride 32 here, as the library builds the network,
          and 16 in fcn_r18_folder, so scores of the two configs do not compare networks.
"""
_base_ = 'fcn_r18_folder.py'

model = dict(
    backbone=dict(_delete_=True, type='LibraryBackbone', network='timm.tf_efficientnet_lite0',
                  out_indices=(3,)),
    decode_head=dict(in_channels=320, in_index=0, dilation=1),   # a crop has 4 × 4 cells
)

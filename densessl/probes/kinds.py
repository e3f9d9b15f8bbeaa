"""Names of the probes, kept apart so that ``--help`` need not import PyTorch."""

KINDS = {   # what --kind can name, and what it measures
    'dense': 'a 1×1 convolution on frozen maps, upsampled, on label maps: mIoU',
    'linear': 'logistic regression on frozen pooled features, on images in classes: accuracy',
    'knn': 'weighted nearest neighbors of frozen pooled features: accuracy',
    'finetune': 'the whole network trained on images in classes: accuracy',
}

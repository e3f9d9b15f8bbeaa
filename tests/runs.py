"""Training runs that take a second a step."""
from __future__ import annotations

TINY = ['views.0.size=64', 'views.1.size=64', 'model.projection=[32,16]', 'model.num_regions=4',
        'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0', 'log_interval=2']

"""Published layouts of checkpoints, around the weights of two ResNet-18s."""
import torch
import torchvision

SEQUENTIAL = {'conv1': '0', 'bn1': '1', 'layer1': '4', 'layer2': '5', 'layer3': '6', 'layer4': '7'}


def resnet18(seed=0, fc=False):
    """torchvision's ResNet-18, whose own keys the layouts start from."""
    torch.manual_seed(seed)
    state = torchvision.models.resnet18(num_classes=4).state_dict()
    return state if fc else {key: value for key, value in state.items() if key[:3] != 'fc.'}


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def numbered(state):
    """As nn.Sequential(*resnet.children()) names it."""
    return {'.'.join([SEQUENTIAL[key.split('.')[0]], *key.split('.')[1:]]): value
            for key, value in state.items()}


Q, K = resnet18(), resnet18(seed=1)
HEAD = {'0.weight': torch.zeros(4, 4), '0.bias': torch.zeros(4)}
QUEUE = {'queue': torch.zeros(2, 8), 'queue_ptr': torch.zeros(1, dtype=torch.long)}
LAYOUTS = {
    'torchvision': lambda: resnet18(fc=True),
    'moco': lambda: {'epoch': 200, 'arch': 'resnet18', 'optimizer': {'state': {}}, 'state_dict': {
        **under('module.encoder_q.', resnet18(fc=True)), **under('module.encoder_k.', K),
        **under('module.', QUEUE)}},
    'moco_v3': lambda: {'state_dict': {
        **under('module.base_encoder.', Q), **under('module.base_encoder.fc.', HEAD),
        **under('module.momentum_encoder.', K), **under('module.predictor.', HEAD)}},
    'simclr': lambda: {'epoch': 100, 'state_dict': {
        **under('backbone.', Q), **under('backbone.fc.', HEAD)}},
    'simclr ': lambda: {**under('encoder.', Q), **under('projector.', HEAD)},
    'byol': lambda: {
        'online_network_state_dict': {**under('encoder.', numbered(Q)),
                                      **under('projetion.net.', HEAD)},
        'encoder_state_dict': numbered(Q),
        'target_network_state_dict': under('encoder.', numbered(K)),
        'optimizer_state_dict': {'state': {0: {'momentum_buffer': torch.zeros(3)}}}},
    'byol ': lambda: {'model': {
        **under('module.online_network.encoder.', numbered(Q)),
        **under('module.online_network.projetion.', HEAD),
        **under('module.target_network.encoder.', numbered(K)),
        **under('module.predictor.predictor.', HEAD)}},
    'byol  ': lambda: {'state_dict': {
        **under('learner.net.', resnet18(fc=True)),
        **under('learner.online_encoder.net.', resnet18(fc=True)),
        **under('learner.online_encoder.projector.', HEAD),
        **under('learner.online_predictor.', HEAD),
        **under('learner.target_encoder.net.', K)}},
    'vissl': lambda: {'phase': 1, 'classy_state_dict': {'base_model': {'model': {
        'trunk': under('_feature_blocks.', Q), 'heads': HEAD}}, 'loss': {'x': torch.zeros(1)}}},
    'lightly': lambda: {'pytorch-lightning_version': '2.0', 'state_dict': {
        **under('backbone.', numbered(Q)), **under('backbone_momentum.', numbered(K)),
        **under('projection_head.layers.', HEAD), **under('prediction_head.layers.', HEAD)}},
    'detcon': lambda: {'state_dict': {
        **under('network.encoder.', numbered(Q)), **under('network.projector.', HEAD),
        **under('predictor.', HEAD), 'temperature': torch.tensor(0.1)}},
    'swav': lambda: {**under('module.', Q), **under('module.projection_head.', HEAD),
                     'module.prototypes.weight': torch.zeros(3, 4)},
    'vicreg': lambda: {'model': {**under('module.backbone.', Q),
                                 **under('module.projector.', HEAD)}},
    'dino': lambda: {'student': under('module.backbone.', K), 'teacher': {
        **under('backbone.', Q), **under('head.mlp.', HEAD)}, 'epoch': 9},
    'mmselfsup': lambda: {'meta': {'epoch': 3}, 'state_dict': {
        **under('backbone.', Q), **under('neck.', HEAD), **under('head.', HEAD),
        **under('target_net.0.', K)}},
    'densecl': lambda: {'state_dict': {
        **under('backbone.', Q), **under('encoder_q.0.', Q), **under('encoder_q.1.mlp.', HEAD),
        **under('encoder_k.0.', K), **QUEUE, 'queue2': torch.zeros(2, 8)}},
}


def written(folder, content, name='weights.pth', **options):
    torch.save(content, folder / name, **options)
    return folder / name

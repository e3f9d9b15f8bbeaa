"""What goes wrong with a run, in words: what was seen, and what usually mends it.

A rule looks at the figures of one line of the log. It raises its alarm when it has held for some
lines in a row, and again only after it has ceased to hold.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Figures = Mapping[str, float]
Finding = Callable[[Figures], 'str | None']

COLLAPSED = 0.02        # spread; a random ResNet gives about 0.1–0.3, a trained one more
FALLEN = 0.25           # effective rank, of the highest so far
ALIKE = 0.95            # mean cosine between different images' projections
TRIVIAL = 0.02          # relative distance of a loss from its trivial value
FAR_ABOVE = 1.2         # loss, of its trivial value
ONE_REGION = 1.2        # regions a view
ALONE = 0.1             # share of anchors that have a positive
LEAP = 0.1              # length of an update, of that of the weights
WAITING = 0.05          # share of the time waiting for data, above which more workers are advised
STARVED = 0.1           # and above which it is an alarm
SETTLED = 0.05          # of the run: earlier a loss may be at its trivial value


@dataclass(frozen=True)
class Alarm:
    """Something that goes wrong.

    Attributes:
        step: iteration, counted from 1; 0 before the first. name: of the rule.
        text: what was seen. mend: what usually helps.
    """

    step: int
    name: str
    text: str
    mend: str

    def __str__(self) -> str:
        return f'{self.text}; what usually helps: {self.mend}'


@dataclass(frozen=True)
class Rule:
    """When an alarm is raised.

    Attributes:
        finding: what is wrong with the figures, in words; None if nothing is.
        lines: for how many lines of the log in a row. after: share of the run before it counts.
    """

    name: str
    finding: Finding
    mend: str
    lines: int = 1
    after: float = 0.0


def _below(name: str, bound: float, words: str) -> Finding:
    return lambda f: words.format(f[name], **f) if name in f and f[name] < bound else None


def _above(name: str, bound: float, words: str) -> Finding:
    return lambda f: words.format(f[name], **f) if name in f and f[name] > bound else None


def _rank_fell(f: Figures) -> str | None:
    now, highest = f.get('rank_backbone'), f.get('highest_rank')
    if now is None or highest is None or now >= FALLEN * highest:
        return None
    return (f'the effective rank of the features fell to {now:.1f} from {highest:.1f}: they '
            f'differ by fewer and fewer directions')


def _is_trivial(f: Figures) -> str | None:
    share = f.get('loss_of_trivial')
    if share is None or abs(share - 1) > TRIVIAL:
        return None
    return (f'the loss sits where it is if nothing is told apart (ln N, here '
            f'{f["loss_trivial"]:.3f}): {share:.0%} of it')


RULES = (
    Rule('collapse', _below('spread', COLLAPSED, 'the features of a batch are nearly the same '
                            '(spread {:.3f} of 1): the backbone is collapsing'),
         'lower the learning rate or lengthen the warm-up; a method without negatives also needs '
         'its predictor and a target that takes no gradient'),
    Rule('rank', _rank_fell, 'lower the learning rate; less weight decay; a slower target',
         lines=2),
    Rule('projections', _above('negative_similarity', ALIKE, 'projections of different images are '
                               'nearly the same (mean cosine {:.3f})'),
         'as for a collapse: a lower learning rate, a longer warm-up, predictor and target as '
         'published', lines=2),
    Rule('trivial', _is_trivial, 'a higher learning rate if it is below the recipe’s; a '
         'temperature near the published one; views that still share something', lines=3,
         after=SETTLED),
    Rule('far_above', _above('loss_of_trivial', FAR_ABOVE, 'the loss is {:.3g} times that of '
                             'telling nothing apart (ln N, here {loss_trivial:.3f}): the '
                             'similarities are divided by too little, or the weights are thrown '
                             'about'),
         'a temperature near the published one (0.1 to 0.2); a lower learning rate or a longer '
         'warm-up', lines=2),
    Rule('regions', _below('regions_a_view', ONE_REGION, 'a view has {:.2f} regions: masks of one '
                           'region contrast whole images, not regions'),
         'masks of more and smaller regions (densessl make_masks draws a preview); larger crops',
         lines=2),
    Rule('positives', _below('anchors_with_positive', ALONE, 'only {:.0%} of the anchors have a '
                             'positive: the two views share hardly a region'),
         'larger crops (views.*.area), fewer and larger regions', lines=2),
    Rule('update', _above('update', LEAP, 'an update changes the weights by {:.0%} of their '
                          'length: the learning rate is out of range for this batch'),
         'the recipe’s rate for its batch (schedule.base_lr and reference_batch), a longer '
         'warm-up, or optim_wrapper.clip_grad', lines=2),
    Rule('gradient', lambda f: 'no gradient reaches the weights' if f.get('gradient') == 0 else
         None, 'a temperature near the published one; nothing that is to be trained frozen',
         lines=2),
    Rule('waiting', _above('waiting', STARVED, '{:.0%} of the time is spent waiting for data'),
         'more workers (train_dataloader.num_workers), tar shards or smaller files on a faster '
         'disk', lines=3),
)


class Alarms:
    """Looks at the figures of each line of the log.

    Args:
        steps: iterations of the whole run.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.held = dict.fromkeys((rule.name for rule in RULES), 0)
        self.highest = 0.0

    def judge(self, step: int, figures: Figures) -> list[Alarm]:
        """The alarms that the figures of iteration ``step`` raise."""
        raised = []
        figures = {**figures, 'highest_rank': self.highest}
        self.highest = max(self.highest, figures.get('rank_backbone', 0.0))
        for rule in RULES:
            text = rule.finding(figures) if step >= rule.after * self.steps else None
            self.held[rule.name] = self.held[rule.name] + 1 if text else 0
            if self.held[rule.name] == rule.lines:
                raised.append(Alarm(step, rule.name, text, rule.mend))
        return raised


def queue_alarms(*, queue: int | None, global_batch: int, images: int) -> list[Alarm]:
    """What is wrong with the size of a queue before the first step.

    Args:
        queue: how many negatives are kept from earlier steps; None if there is no queue.
        global_batch: images an update. images: of the data set.
    """
    if queue and queue < global_batch:
        return [Alarm(0, 'queue', f'the queue of {queue} negatives is smaller than the batch of '
                      f'{global_batch}: most keys are dropped as they come',
                      'a queue of many batches, a whole number of them')]
    if queue and queue > images:
        return [Alarm(0, 'queue', f'the queue of {queue} negatives is longer than the {images} '
                      f'images: other views of an image stand among its negatives',
                      'a queue of at most half the images (model.queue)')]
    return []

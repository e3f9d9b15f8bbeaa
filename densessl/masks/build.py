"""Building a mask store: all cores, resumable, divisible over machines."""
from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from ctypes import c_bool
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from densessl.errors import RunFailed, UsageError, path_of
from densessl.files.lock import BuildLock
from densessl.files.writing import flush_everything, write_atomically
from densessl.images.image_list import ImageList, UnreadableImage, distinct_keys, require_apart
from densessl.images.image_names import check_links
from densessl.images.tar_layout import MAX_MAPS
from densessl.machine.cores import cores
from densessl.masks import metadata as mask_info
from densessl.masks.generator import MaskGenerator
from densessl.masks.record import NOTHING, SAME, UNKNOWN, Share, join_records, named, state_now
from densessl.masks.store import MaskStore, mask_name
from densessl.pixels import label_png
from densessl.plugins import name_of
from densessl.progress import Progress

MOST_WORKERS = 2 ** 10


@dataclass
class MaskSummary:
    """What a build did: how many masks it ``made`` and ``kept`` (they were there), the images it
    ``skipped`` with the reasons, those that are ``cut`` (their files end too early) with what is
    missing, how many had ``changed`` (and are among the made or the skipped), and the ``seconds``
    it took."""

    made: int = 0
    kept: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)
    changed: int = 0
    seconds: float = 0.0

    def add(self, other: MaskSummary) -> None:
        """Count ``other``'s images too."""
        self.made += other.made
        self.kept += other.kept
        self.skipped |= other.skipped
        self.cut |= other.cut

    def __str__(self) -> str:
        each = f' ({self.made / self.seconds:.1f}/s)' if self.made and self.seconds else ''
        line = f'{self.made} made, {self.kept} kept, {len(self.skipped)} skipped ' \
               f'in {self.seconds:.0f} s{each}'
        for name, reason in list(self.skipped.items())[:1]:
            line += f'; skipped {name}: {reason}'
        for name, damage in list(self.cut.items())[:1]:
            line += f'; {len(self.cut)} files end too early, such as {name}: {damage}'
        return line


def make_masks(images: ImageList, out: str | Path, generator: MaskGenerator, *,
               workers: int | None = None, shard: tuple[int, int] = (0, 1),
               progress: bool = True) -> MaskSummary:
    """Make the masks of ``images`` that ``out`` does not have yet.

    A build that was stopped is resumed by the same call; the masks of images that have changed
    since are made again. Shards share ``out`` and need not know of each other; the store is
    complete when each has been run.

    Args:
        images: what to make masks of.
        out: the store's folder; created if it is missing.
        generator: makes one label map; it must be picklable.
        workers: processes; all cores by default. With 1 the work is done in this process.
        shard: (I, N): every Nth image from the Ith (0 ≤ I < N).
        progress: whether to show it on stderr.

    Raises:
        UsageError: ``out`` cannot be written to, is not a mask store, was made with other
            parameters or is being built by another process; two images would share a mask; or no
            image gave a mask.
        RuntimeError: a worker was killed.
    """
    out = Path(os.path.abspath(os.path.expanduser(out)))
    if not 0 <= shard[0] < shard[1]:
        raise UsageError(f'shard {shard[0]}/{shard[1]}: of N shards the first is 0/N and the last '
                         f'(N-1)/N')
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f'workers must be at least 1 and at most {MOST_WORKERS}, not {workers}')
    _check_names(images, out, generator.maps)
    if min(workers or cores(), len(images)) > 1:
        _require_picklable(generator)
    mask_info.begin(out, images, generator)
    start = time.monotonic()
    with BuildLock(out, shard):
        share = Share(images, range(shard[0], len(images), shard[1]), out, shard, generator)
        if share.changed and progress:
            print(f'{len(share.changed)} of {len(share.positions)} images, or what their regions '
                  f'are from, have changed since their masks were made '
                  f'({named(images, share.changed)}): their masks are made again', file=sys.stderr)
        try:
            summary = _make(share, generator, workers or cores(), progress)
        finally:
            share.write()
        summary.changed, summary.seconds = len(share.changed), time.monotonic() - start
        flush_everything()
        mask_info.write_mark(out, shard, images.digest(), summary.made + summary.kept,
                              summary.skipped)
        marks = mask_info.gather_marks(out, images.digest(), shard[1])
        if marks:
            mask_info.finish(out, images, marks)
            join_records(out, images, len(marks))
            mask_info.forget_other_splits(out, len(marks))
    if progress:
        print(f'masks in {out}: {summary}', file=sys.stderr)
    return summary


def _check_names(images: ImageList, out: Path, maps: int) -> None:
    """Refuse what would overwrite one mask with another, mix masks with the images, or lead out
    of the store."""
    require_apart(images, out, 'masks')
    if maps > MAX_MAPS:
        raise UsageError(f'{maps} label maps of an image: at most {MAX_MAPS} are kept')
    names = distinct_keys(images, mask_name, 'share the mask {}')
    check_links(out, names if maps == 1 else (
        f'{which}/{name}' for which in range(maps) for name in names), 'the mask store')


def _require_picklable(generator: MaskGenerator) -> None:
    try:
        pickle.loads(pickle.dumps(generator))
    except Exception as error:     # of any kind: it may be pickled by its own code
        raise UsageError(f'{path_of(type(generator))} must be picklable, or make the masks with 1 '
                         f'worker: {error}') from error


# -- the work -------------------------------------------------------------------------------------

def _make(share: Share, generator: MaskGenerator, workers: int, progress: bool) -> MaskSummary:
    total = MaskSummary()
    workers = min(workers, len(share.positions))
    results = (_in_processes(share, generator, workers) if workers > 1 else
               _in_process(share, generator))
    with Progress('masks', len(share.positions), enabled=progress) as bar, closing(results):
        for summary, states in results:
            total.add(summary)
            for i, state in states.items():
                share.states[share.positions.index(i)] = state
            bar.update(total.made + total.kept + len(total.skipped))
    return total


Result = tuple[MaskSummary, dict[int, tuple[int, ...]]]     # and the states of images, by position


def _in_process(share: Share, generator: MaskGenerator) -> Iterator[Result]:
    store = MaskStore(share.out)
    for i, known in zip(share.positions, share.status, strict=True):
        yield _make_one(share.images, i, store, generator, known)


def _in_processes(share: Share, generator: MaskGenerator, workers: int) -> Iterator[Result]:
    """Results in the order in which they come. Few chunks are under way at any time, so that an
    interrupt has little to wait for and a million images make no million futures."""
    context = multiprocessing.get_context('spawn')   # a forked copy of torch's threads would hang
    stop = context.RawValue(c_bool, False)   # an Event's lock would be lost with a killed worker
    setup = (pickle.dumps((share.images, share.out, generator)), stop)
    pool = ProcessPoolExecutor(workers, context, _begin_worker, setup)
    size = max(1, min(32, len(share.positions) // (8 * workers)))
    chunks = (slice(k, k + size) for k in range(0, len(share.positions), size))

    def begin(some: Iterable[slice]) -> set[Future[Result]]:
        return {pool.submit(_make_some, share.positions[chunk], share.status[chunk])
                for chunk in some}

    try:
        running = begin(islice(chunks, 2 * workers))
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= begin(islice(chunks, len(done)))
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise RunFailed(
            f'a worker process ended: it was killed because memory ran out (then run the same '
            f'command with fewer workers than {workers}; what was made is kept), or was started '
            f'from a script without "if __name__ == \'__main__\':"') from error
    finally:
        stop.value = True                            # a worker ends after the image it is at
        pool.shutdown(cancel_futures=True)


_work: tuple[ImageList, MaskStore, MaskGenerator, Any]     # of a worker process


def _begin_worker(setup: bytes, stop: Any) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)     # the parent says when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for variable in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'NUMBA_NUM_THREADS'):
        os.environ[variable] = '1'                   # one process a core is all there is
    cv2.setNumThreads(1)
    images, out, generator = pickle.loads(setup)     # after that: it imports the generator
    _work = images, MaskStore(out), generator, stop


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its workers, and they would wait for it forever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _make_some(chunk: range, status: np.ndarray) -> Result:
    images, store, generator, stop = _work
    summary, states = MaskSummary(), {}
    for i, known in zip(chunk, status, strict=True):
        if stop.value:
            break
        one, state = _make_one(images, i, store, generator, known)
        summary.add(one)
        states |= state
    return summary, states


def _make_one(images: ImageList, i: int, store: MaskStore, generator: MaskGenerator, known: int
              ) -> Result:
    """Make the mask of image ``i`` unless it is there and of the same image, as is ``known`` of it;
    the image's state is in the result if it is another than it was."""
    name = images.name(i)
    if store.has(name) and known == SAME:
        return MaskSummary(kept=1), {}
    try:
        state = state_now(images, i, generator)
        if store.has(name) and known == UNKNOWN:
            written = os.stat(store.path(name)).st_mtime_ns
            times = [os.stat(path).st_mtime_ns for path in generator.files_for(name)]
            if max(state[2], *times, 0) <= written:     # by a killed build, or another maker
                return MaskSummary(kept=1), {i: state}
        stored = images.open(i)
        data = _encoded(name, stored.pixels(), store.maps, generator)
    except UnreadableImage as error:
        return _skipped(store, name, error.reason), {i: NOTHING}
    except UsageError:
        raise                    # the input of all images is wrong, not this one
    except (Exception, SystemExit) as error:   # a generator may fail on one odd image
        reason = f'{name_of(type(generator))}: {type(error).__name__}: {error}'
        return _skipped(store, name, reason), {i: NOTHING}
    for which, png in enumerate(data):
        write_atomically(store.path(name, which), png, flush=False)   # all at once, at the end
    return MaskSummary(made=1, cut={name: stored.damage} if stored.damage else {}), {i: state}


def _encoded(name: str, image: np.ndarray, maps: int, generator: MaskGenerator) -> list[bytes]:
    masks = generator.for_image(name, image)
    masks = masks[None] if maps == 1 else masks               # (maps, H, W)
    if masks.shape != (maps, *image.shape[:2]):
        raise ValueError(f'masks of shape {masks.shape} for an image of {image.shape[:2]}')
    return [label_png.encode(labels) for labels in masks]


def _skipped(store: MaskStore, name: str, reason: str) -> MaskSummary:
    """An image without a mask, not even that of what the image was before."""
    for which in range(store.maps):
        store.path(name, which).unlink(missing_ok=True)
    return MaskSummary(skipped={name: reason})

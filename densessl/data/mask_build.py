"""Building a mask store: all cores, resumable, divisible over machines."""
from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from ctypes import c_bool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from densessl.data import mask_info, mask_png
from densessl.data.build_lock import BuildLock
from densessl.data.images import ImageList, UnreadableImage
from densessl.data.mask_store import MaskStore, mask_name
from densessl.data.progress import Progress
from densessl.errors import UsageError
from densessl.files import write_atomically

MOST_WORKERS = 2 ** 10

if TYPE_CHECKING:
    from densessl.data.masks import MaskGenerator


@dataclass
class MaskSummary:
    """What a build did: how many masks it ``made`` and ``kept`` (they were there), the images it
    ``skipped`` with the reasons, and the ``seconds`` it took."""

    made: int = 0
    kept: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, other: MaskSummary) -> None:
        """Count ``other``'s images too."""
        self.made += other.made
        self.kept += other.kept
        self.skipped |= other.skipped

    def __str__(self) -> str:
        each = f' ({self.made / self.seconds:.1f}/s)' if self.made and self.seconds else ''
        line = f'{self.made} made, {self.kept} kept, {len(self.skipped)} skipped ' \
               f'in {self.seconds:.0f} s{each}'
        for name, reason in list(self.skipped.items())[:1]:
            line += f'; skipped {name}: {reason}'
        return line


def make_masks(images: ImageList, out: str | Path, generator: MaskGenerator, *,
               workers: int | None = None, shard: tuple[int, int] = (0, 1),
               progress: bool = True) -> MaskSummary:
    """Make the masks of ``images`` that ``out`` does not have yet.

    A build that was stopped is resumed by the same call. Shards share ``out`` and need not know
    of each other; the store is complete when each has been run.

    Args:
        images: what to make masks of.
        out: the store's folder; created if it is missing.
        generator: makes one label map; it must be picklable.
        workers: processes; all cores by default. With 1 the work is done in this process.
        shard: (I, N): every Nth image from the Ith (0 ≤ I < N).
        progress: whether to show it on stderr.

    Raises:
        UsageError: ``out`` cannot be written to, is no mask store, was made with other
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
    _check_names(images, out)
    mask_info.begin(out, images, generator)
    start = time.monotonic()
    with BuildLock(out, shard):
        positions = range(shard[0], len(images), shard[1])
        summary = _make(images, positions, out, generator, workers or cores(), progress)
        summary.seconds = time.monotonic() - start
        mask_info.write_mark(out, shard, images.digest(), summary.made + summary.kept,
                              summary.skipped)
        marks = mask_info.gather_marks(out, images.digest())
        if marks:
            mask_info.finish(out, images, marks)
    if progress:
        print(f'masks in {out}: {summary}', file=sys.stderr)
    return summary


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _check_names(images: ImageList, out: Path) -> None:
    """Refuse what would overwrite one mask with another, or mix masks with the images."""
    if out == images.root or (images.source == images.root and images.root in out.parents):
        raise UsageError(f'masks in {out} would lie among the images of {images.root} and be '
                         f'taken for images; choose a folder beside it, such as '
                         f'{images.root}_masks')
    owners: dict[str, int] = {}
    for i in range(len(images)):
        other = owners.setdefault(mask_name(images.name(i)), i)
        if other != i:
            raise UsageError(f'{images.name(other)} and {images.name(i)} in {images.root} would '
                             f'share the mask {mask_name(images.name(i))}; rename one of them or '
                             f'leave it out by a list of paths')


# -- the work -------------------------------------------------------------------------------------

def _make(images: ImageList, positions: range, out: Path, generator: MaskGenerator, workers: int,
          progress: bool) -> MaskSummary:
    size = max(1, min(32, len(positions) // (8 * workers)))
    chunks = (positions[i:i + size] for i in range(0, len(positions), size))
    summary = MaskSummary()
    workers = min(workers, len(positions))
    results = (_in_processes(images, chunks, out, generator, workers) if workers > 1 else
               _in_process(images, positions, out, generator))
    with Progress('masks', len(positions), enabled=progress) as bar, closing(results):
        for result in results:
            summary.add(result)
            bar.update(summary.made + summary.kept + len(summary.skipped))
    return summary


def _in_process(images: ImageList, positions: range, out: Path, generator: MaskGenerator
                ) -> Iterator[MaskSummary]:
    store = MaskStore(out)
    for i in positions:
        yield _make_one(images, i, store, generator)


def _in_processes(images: ImageList, chunks: Iterator[range], out: Path,
                  generator: MaskGenerator, workers: int) -> Iterator[MaskSummary]:
    """Results in the order in which they come. Few chunks are under way at any time, so that an
    interrupt has little to wait for and a million images make no million futures."""
    context = multiprocessing.get_context('spawn')   # a forked copy of torch's threads would hang
    stop = context.RawValue(c_bool, False)   # an Event's lock would be lost with a killed worker
    setup = (pickle.dumps((images, out, generator)), stop)
    pool = ProcessPoolExecutor(workers, context, _begin_worker, setup)
    running: set[Future[MaskSummary]] = set()
    try:
        for chunk in chunks:
            running.add(pool.submit(_make_some, chunk))
            if len(running) >= 2 * workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise RuntimeError(
            f'a worker process ended: killed for want of memory (then run the same again with '
            f'fewer workers than {workers}; what was made is kept), or started from a script '
            f'without "if __name__ == \'__main__\':"') from error
    finally:
        stop.value = True                            # a worker ends after the image it is at
        pool.shutdown(cancel_futures=True)


_work: tuple[ImageList, MaskStore, MaskGenerator, Any]     # of a worker process


def _begin_worker(setup: bytes, stop: Any) -> None:
    import signal
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


def _make_some(chunk: range) -> MaskSummary:
    images, store, generator, stop = _work
    summary = MaskSummary()
    for i in chunk:
        if stop.value:
            break
        summary.add(_make_one(images, i, store, generator))
    return summary


def _make_one(images: ImageList, i: int, store: MaskStore, generator: MaskGenerator) -> MaskSummary:
    name = images.name(i)
    if store.has(name):
        return MaskSummary(kept=1)
    try:
        image = images.read(i)
        masks = generator.for_image(name, image)
        masks = masks[None] if store.maps == 1 else masks               # (maps, H, W)
        if masks.shape != (store.maps, *image.shape[:2]):
            raise ValueError(f'masks of shape {masks.shape} for an image of {image.shape[:2]}')
        data = [mask_png.encode(labels) for labels in masks]
    except UnreadableImage as error:
        return MaskSummary(skipped={name: error.reason})
    except UsageError:
        raise                    # the input of all images is wrong, not this one
    except Exception as error:   # a generator may fail on one odd image; the others go on
        return MaskSummary(skipped={name: f'{generator.name}: {type(error).__name__}: {error}'})
    for which, png in enumerate(data):
        write_atomically(store.path(name, which), png)
    return MaskSummary(made=1)

"""What a run shows while it trains, on a terminal and elsewhere."""
from __future__ import annotations

import io
import logging
import sys
from types import SimpleNamespace

import pytest
from runs import TINY

from densessl.cli import main
from densessl.training.live import TerminalFormatter, show_live
from densessl.training.log import readable_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


def runner_on(stream):
    logger = logging.Logger('run', logging.INFO)
    logger.addHandler(logging.StreamHandler(stream))
    runner = SimpleNamespace(logger=logger, max_iters=4, iter=0, hooks=[])
    runner.register_hook = runner.hooks.append
    return runner


def on_terminal(monkeypatch):
    """stderr as a terminal; not by a fixture, after which pytest puts its own in place."""
    stream = Terminal()
    monkeypatch.setattr(sys, 'stderr', stream)
    monkeypatch.setenv('COLUMNS', '200')
    return stream


def test_a_terminal_has_lines_above_a_bar(monkeypatch):
    terminal = on_terminal(monkeypatch)
    runner = runner_on(Terminal())
    hook = show_live(runner, quiet=False)
    assert runner.hooks == [hook]
    hook.before_train(runner)
    runner.logger.info('step 1/4  loss [red]2.5')
    hook.after_train_iter(runner, 0)
    assert hook.progress.bar.tasks[0].completed == 1
    hook.close()
    assert 'loss [red]2.5' in terminal.getvalue() and '1/4' in terminal.getvalue()
    runner.logger.info('done')
    assert runner.logger.handlers[0].stream.getvalue().endswith('  done\n')
    hook.close()        # again does no harm


def test_elsewhere_there_are_lines_only(monkeypatch):
    terminal = on_terminal(monkeypatch)
    runner = runner_on(io.StringIO())
    assert show_live(runner, quiet=False) is None and runner.hooks == []
    runner.logger.info('a line')
    assert runner.logger.handlers[0].stream.getvalue() == 'a line\n'
    assert terminal.getvalue() == ''


@pytest.mark.parametrize('stream', [Terminal, io.StringIO])
def test_quiet_says_warnings_alone(monkeypatch, stream):
    on_terminal(monkeypatch)
    runner = runner_on(stream())
    assert show_live(runner, quiet=True) is None and runner.hooks == []
    runner.logger.info('a line')
    runner.logger.warning('trouble')
    said = runner.logger.handlers[0].stream.getvalue()
    assert 'a line' not in said and said.endswith('trouble\n')


def test_a_warning_is_named():
    record = logging.LogRecord('run', logging.WARNING, '', 0, 'two  spaces', (), None)
    assert TerminalFormatter().format(record)[8:] == '  WARNING: two  spaces'


def test_a_line_can_be_read():
    hub = SimpleNamespace(get_info=lambda name: {'eta': 278.4}[name])
    runner = SimpleNamespace(iter=19, max_iters=112, message_hub=hub)
    tag = {'lr': 0.0491, 'data_time': 0.006, 'time': 1.83, 'loss': 3.1712, 'images_per_s': 17.52,
           'spread': 0.37}
    assert readable_line(runner, tag) == ('step  20/112  loss 3.171  spread 0.37  lr 0.0491  '
                                          '17.5 images/s  0:04:38 left')
    runner.iter = 111
    assert 'left' not in readable_line(runner, tag)


@pytest.mark.usefixtures('surroundings')
def test_a_quiet_run_says_nothing(scenes, tmp_path, capfd):
    words = ['train', 'small/detcon_r18', '--data', str(scenes), '--epochs', '1', '--work-dir']
    assert main([*words, str(tmp_path / 'loud'), '--cfg-options', *TINY]) == 0
    assert 'INFO' in capfd.readouterr().out
    assert main([*words, str(tmp_path / 'quiet'), '--quiet', '--cfg-options', *TINY]) == 0
    assert 'INFO' not in capfd.readouterr().out

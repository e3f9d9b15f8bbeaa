"""JSON lines of a run that was stopped and goes on."""
import json

from densessl.watch.record import JsonLines, read_lines


def test_lines_after_the_step_a_run_goes_on_from_are_taken_out(tmp_path):
    path = tmp_path / 'health.jsonl'
    file = JsonLines(path)
    assert file.begin(0) == [] and not path.exists()
    for step in (2, 4, 6):
        file.append({'step': step, 'loss': step / 4})
    with path.open('a') as cut:
        cut.write('{"step": 8, "lo')
    assert [line['step'] for line in JsonLines(path).begin(4)] == [2, 4]
    JsonLines(path).append({'step': 6, 'loss': float('nan')})
    assert [json.loads(text) for text in path.read_text().splitlines()] == [
        {'step': 2, 'loss': 0.5}, {'step': 4, 'loss': 1.0}, {'step': 6, 'loss': None}]


def test_what_is_no_line_is_passed_over(tmp_path):
    path = tmp_path / 'x.jsonl'
    assert read_lines(path) == []
    path.write_text('[1]\n{"step": "one"}\n\n{"step": 3}\n{"a": 1}\n')
    assert read_lines(path) == [{'step': 3}]
    path.write_text(f'{{"step": 1, "a": {"[" * 10 ** 5}{"]" * 10 ** 5}}}\n{{"step": 3}}\n')
    assert read_lines(path) == [{'step': 3}]

"""--mode=evaluate: compares colors with the ground truth.

A *protocol* defines the references of a clip and the frames that count
(`protocols.py`). A *method* gets CIE L of each true frame and yields colors at the
source's size, where they are compared with the truth. Values are means over a clip's
frames, then over clips. The row `truth` has the metrics that need only one clip.

The values of each clip are stored under `clips/` of the output, with a key of
everything that they depend on. An interrupted evaluation resumes with the next clip.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from vitexco_jax import files
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import baselines, clips, leaderboard, report
from vitexco_jax.evaluation.measure import measure_clip
from vitexco_jax.evaluation.protocols import PROTOCOLS, Chooser, check_protocols
from vitexco_jax.evaluation.subjects import Method, Subject
from vitexco_jax.evaluation.summary import summarize
from vitexco_jax.structs import Given

_logger = logging.getLogger(__name__)

BASELINES = {
  'gray': baselines.gray,
  'flow': baselines.chained_flow,
  'transfer': baselines.color_transfer,
  'vgg16': baselines.match_vgg16,
}


def evaluate(
  config: ml_collections.ConfigDict,
  subject: Subject,
  data: str,
  output: Path,
  protocols: Sequence[str] = PROTOCOLS[:1],
  compared: Sequence[str] = (),
  gallery: Path | None = None,
  others: Sequence[Subject] = (),
  board: Path | None = None,
) -> dict[str, Any]:
  """Evaluates on every clip; prints tables and writes a report.

  Args:
    config: `use.size` is the working size; `retrieval` configures the search of
      references.
    subject: from `subjects.network` or `subjects.predictions`.
    data: see `clips.find_clips`.
    output: a folder; `report` lists its files.
    protocols: some of `PROTOCOLS`.
    compared: names of `BASELINES` to compare with.
    gallery: for the protocol `retrieved`.
    others: more subjects, with other names.
    board: a leaderboard to which the methods are added.

  Returns:
    The content of `summary.json`.

  Raises:
    UserError: a name is unknown; there are no clips, or one is broken or too
      short; the gallery or the predictions do not match; the output cannot be
      written.
  """
  check_protocols(protocols, gallery)
  for name in compared:
    if name not in BASELINES:
      raise UserError(f'`compared={name}`: known are {", ".join(BASELINES)}')
  if board is not None:
    leaderboard.read(board)  # Before the slow part.
    files.check_writable(board)
  subjects = [subject, *others]
  for label in {x.name for x in subjects} & {report.TRUTH, *BASELINES}:
    raise UserError(f'`predictions`: the label {label} is taken: give another')
  all_clips = clips.find_clips('data', data)
  choosers = {x: Chooser(config, x, gallery) for x in protocols}
  files.make_folder('output', output)
  writing = functools.partial(files.explained, 'output', output)
  size = tuple(config.use.size)
  settings = {
    **_state(subjects),
    'input': 'CIE L of the true frame',
    'working_size': list(size),
    'output_size': 'source',
    'saturation_boost': False,
    'edge_filter': False,
  }
  results: dict[str, dict[str, Any]] = {}
  for protocol, choose in choosers.items():
    methods = _methods(subjects, compared, protocol, size)
    identities = [x.identity for x in subjects]
    identity = settings, identities, list(methods), choose.identity
    results[protocol] = {}
    for clip in map(choose.change, all_clips):
      pictures = report.Pictures(output, protocol, clip.name, list(methods))
      stored = output / 'clips' / protocol / f'{clip.name}.json'
      key = _key(*identity, clip.fingerprint)
      result = _read_stored(stored, key) if pictures.are_written() else None
      if result is None:
        values = measure_clip(clip, choose, methods, pictures)
        result = {'key': key, **values}
        with writing():
          stored.parent.mkdir(parents=True, exist_ok=True)
          files.write(stored, json.dumps(result))
      results[protocol][clip.name] = result
  summary = {
    'settings': settings,
    'protocols': {name: summarize(x) for name, x in results.items()},
  }
  with writing():
    report.write(output, summary, results)
  if board is not None:
    with files.explained('leaderboard', board):
      leaderboard.update(board, Path(data).name, summary)
  _logger.info(report.markdown(summary))
  _logger.info(f'Report: {output / "report.html"}')
  return summary


def _state(subjects: Sequence[Subject]) -> dict[str, Any]:
  """Returns what the subjects state; the same entry of several is joined."""
  stated: dict[str, Any] = {}
  for subject in subjects:
    for name, value in subject.stated.items():
      stated[name] = f'{stated[name]}, {value}' if name in stated else value
  return stated


def _methods(
  subjects: Sequence[Subject],
  compared: Sequence[str],
  protocol: str,
  size: tuple[int, int],
) -> dict[str, Method]:
  """Returns the subjects and those baselines that the protocol permits."""
  methods = {subject.name: subject.method(protocol) for subject in subjects}
  for name in compared:
    # Flow cannot reach a picture outside the clip.
    of_clip = protocol not in ('retrieved', 'none')
    of_reference = protocol != 'none' or name == 'gray'
    if of_reference and (of_clip or name != 'flow'):
      methods[name] = functools.partial(_baseline, BASELINES[name], size)
  return methods


def _baseline(
  function: Callable[..., Iterator[np.ndarray]],
  size: tuple[int, int],
  clip: clips.Clip,
  references: Sequence[Given],
) -> Iterator[np.ndarray]:
  return function(clip.read, references, size)


def _key(*values: Any) -> str:
  """Hashes JSON values that a result depends on."""
  return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _read_stored(path: Path, key: str) -> dict[str, Any] | None:
  """Returns the stored values of a clip if its key has not changed."""
  if not path.exists():
    return None
  result = json.loads(path.read_text())
  return result if result['key'] == key else None

"""Subjects of an evaluation: the network, or the results of another method."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitexco_jax import weights
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import clips
from vitexco_jax.evaluation.protocols import CHANGES, PROTOCOLS
from vitexco_jax.inference import stills
from vitexco_jax.inference.video_colorizer import VideoColorizer
from vitexco_jax.structs import Given

# Yields the colored frames of a clip, given its references.
Method = Callable[[clips.Clip, Sequence[Given]], Iterator[np.ndarray]]


class Subject(NamedTuple):
  """A method that is evaluated."""

  name: str  # `vitexco`, or the label of predictions.
  method: Callable[[str], Method]  # Given the name of a protocol.
  stated: dict[str, Any]  # Shown with the results.
  identity: Any  # Everything else on which its frames depend, as JSON.


def network(colorizer: VideoColorizer, checkpoint: str | Path) -> Subject:
  """Returns the network as the subject of an evaluation.

  Colors are propagated from a frame of the clip both ways in time, as in `film`;
  frames before it are kept in memory.

  Args:
    colorizer: the network.
    checkpoint: file or folder of its weights.
  """

  def color(
    clip: clips.Clip, references: Sequence[Given]
  ) -> Iterator[np.ndarray]:
    start = references[0].frame if references else None
    pictures = [given.rgb for given in references]
    if start is not None and colorizer.config.use.fit_stills:
      (own,) = clip.frames(start)
      pictures[0] = stills.fit(pictures[0], own).rgb
    begin = functools.partial(
      colorizer.set_reference, *pictures, first_frame=start is not None
    )
    if start:
      begin()
      back = list(colorizer.colorize(clip.frames(*range(start, -1, -1))))
      yield from back[:0:-1]
    begin()
    yield from colorizer.colorize(itertools.islice(clip.read(), start, None))

  config = colorizer.config
  stated = {
    'checkpoint': str(checkpoint),
    **{name: x for name, x in config.use.items() if name != 'size'},
  }
  identity = [_fingerprint(weights.find(checkpoint)), config.model.to_dict()]
  return Subject('vitexco', lambda _: color, stated, identity)


def predictions(
  path: str,
  label: str = 'predictions',
  protocols: Sequence[str] = PROTOCOLS[:1],
) -> Subject:
  """Returns another method's results as the subject of an evaluation.

  Args:
    path: a folder for each protocol, named like it, or what one of these has:
      clips with the same names as in `--data`, except for the suffix of videos; a
      single one may have any name.
    label: its name in the report.
    protocols: that will be evaluated.

  Raises:
    UserError: there are no clips, or none of one of the protocols.
  """
  predicted = _find_predictions(path, protocols)
  found = (clip for x in protocols for clip in predicted[x])
  return Subject(
    label,
    lambda protocol: functools.partial(_predicted, predicted[protocol]),
    {'predictions': path if label == 'predictions' else f'{label}={path}'},
    [label, *(clip.fingerprint for clip in found)],
  )


def _find_predictions(
  path: str, protocols: Sequence[str]
) -> Mapping[str, Sequence[clips.Clip]]:
  """Returns the predicted clips of each protocol."""
  folders = {protocol: Path(path) / protocol for protocol in protocols}
  if any((Path(path) / protocol).is_dir() for protocol in PROTOCOLS):
    for protocol, folder in folders.items():
      if not folder.is_dir():
        raise UserError(
          f'`predictions={path}` has no folder {protocol}: add it, or leave '
          f'{protocol} out of `protocols`'
        )
    return {
      protocol: clips.find_clips('predictions', str(folder))
      for protocol, folder in folders.items()
    }
  if len(protocols) > 1 or protocols[0] in CHANGES:
    raise UserError(
      f'`protocols={",".join(protocols)}` needs a folder of `predictions={path}` '
      f'for each protocol, such as {folders[protocols[0]]}: --mode=inputs '
      'writes what to colorize'
    )
  return {protocols[0]: clips.find_clips('predictions', path)}


def read_predictions(
  values: Sequence[str], protocols: Sequence[str] = PROTOCOLS[:1]
) -> list[Subject]:
  """Returns the subjects of `predictions`: PATH, or several LABEL=PATH.

  Of several, one without a label is named like its file or folder.

  Args:
    values: of the flag.
    protocols: that will be evaluated.

  Raises:
    UserError: two have the same label, or `predictions` raises it.
  """
  found: dict[str, Subject] = {}
  for value in values:
    label, separator, path = value.partition('=')
    if not separator or '/' in label or Path(value).exists():
      path = value
      label = Path(value).stem if len(values) > 1 else 'predictions'
    if label in found:
      raise UserError(
        f'`predictions={value}`: the label {label} is used twice: give another '
        'one, as in LABEL=PATH'
      )
    found[label] = predictions(path, label, protocols)
  return list(found.values())


def _predicted(
  predicted: Sequence[clips.Clip],
  clip: clips.Clip,
  references: Sequence[Given],
) -> Iterator[np.ndarray]:
  """Yields another method's frames of a clip, after checking that they match."""
  del references
  stem = Path(clip.name).stem
  matches = [x for x in predicted if Path(x.name).stem == stem]
  if not matches and len(predicted) == 1:
    matches = list(predicted)
  if len(matches) != 1:
    raise UserError(
      f'`predictions` has {len(matches) or "no"} clips named {stem}, for the '
      f'clip {clip.name} of `data`, among: '
      f'{", ".join(x.name for x in predicted)}'
    )
  (match,) = matches
  if match.count != clip.count:
    raise UserError(
      f'`predictions`: {match.name} has {match.count} frames, but the clip '
      f'{clip.name} of `data` has {clip.count}'
    )
  for stem, true in zip(match.stems or (), clip.stems or (), strict=False):
    if stem != true:
      raise UserError(
        f'`predictions`: {match.name} has a frame {stem} where the clip '
        f'{clip.name} of `data` has {true}'
      )
  return match.read()


def _fingerprint(path: Path) -> list[list[str | int]]:
  """Name, size, and modification time of a file or of all files in a folder."""
  files = sorted(path.rglob('*')) if path.is_dir() else [path]
  return [
    [str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns]
    for f in files
    if f.is_file()
  ]

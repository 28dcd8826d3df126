"""--mode=evaluate: compares colors with the ground truth.

A *protocol* defines the references of a clip and the frames that count:

  first-frame  the clip's true first frame; all frames count
  far-frame    the middle frame, which does not count
  retrieved    the picture of a gallery that is most similar to the middle frame in
               gray; all frames count
  multi        the first and the last frame; all frames count
  none         no reference; all frames count

A *method* gets CIE L of each true frame and yields colors at the source's size,
where they are compared with the truth. Values are means over a clip's frames, then
over clips. The row `truth` has the metrics that need only one clip.

The values of each clip are stored under `clips/` of the output, with a key of
everything that they depend on. An interrupted evaluation resumes with the next clip.
"""

import collections
import concurrent.futures
import functools
import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy as np
import tqdm

from vitexco_jax import files, flow
from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import baselines, clips, metrics, report
from vitexco_jax.pretrained import lpips
from vitexco_jax.retrieval.gallery import open_with_embedder
from vitexco_jax.structs import Given

PROTOCOLS = ('first-frame', 'far-frame', 'retrieved', 'multi', 'none')
BASELINES = {
  'gray': baselines.gray,
  'flow': baselines.chained_flow,
  'transfer': baselines.color_transfer,
  'vgg16': baselines.match_vgg16,
}

_LPIPS_VGG_EVERY = 10  # Frames: it is far slower than all other metrics.
_LAST = 10  # Frames at the end that have a separate mean.
_STRIP_COLUMNS = 5
_THREADS = max(2, os.cpu_count() or 2)
_IN_FLIGHT = 2 * _THREADS  # Frames being compared; bounds the memory.

Method = Callable[[clips.Clip, Sequence[Given]], Iterator[np.ndarray]]


class Subject(NamedTuple):
  """The main method of an evaluation."""

  name: str  # `vitexco` or `predictions`.
  method: Method
  stated: dict[str, Any]  # Shown with the results.
  identity: Any  # What its frames depend on besides the clips, as JSON.


class Frame(NamedTuple):
  """A true frame and the results of the methods."""

  number: int
  true_rgb: np.ndarray
  colored: list[np.ndarray]  # One for each method.


def evaluate(
  config: ml_collections.ConfigDict,
  subject: Subject,
  data: str,
  output: Path,
  protocols: Sequence[str] = PROTOCOLS[:1],
  compared: Sequence[str] = (),
  gallery: Path | None = None,
) -> dict[str, Any]:
  """Evaluates on every clip; prints tables and writes a report.

  Args:
    config: `use.size` is the working size; `retrieval` configures the search of
      references.
    subject: from `network` or `predictions`.
    data: see `clips.find_clips`.
    output: a folder; `report` lists its files.
    protocols: some of `PROTOCOLS`.
    compared: names of `BASELINES` to compare with.
    gallery: for the protocol `retrieved`.

  Returns:
    The content of `summary.json`.

  Raises:
    UserError: a name is unknown; there are no clips, or one is broken or too
      short; the gallery or the predictions do not match; the output cannot be
      written.
  """
  _check_known('--protocols', protocols, PROTOCOLS)
  _check_known('--baselines', compared, BASELINES)
  if 'retrieved' in protocols and gallery is None:
    raise UserError('--protocols=retrieved needs --gallery')
  found_clips = clips.find_clips('--data', data)
  choosers = {x: _Chooser(config, x, gallery) for x in protocols}
  files.make_folder('output', output)
  writing = functools.partial(files.explained, 'output', output)
  size = tuple(config.use.size)
  settings = {
    **subject.stated,
    'input': 'CIE L of the true frame',
    'working_size': list(size),
    'output_size': 'source',
    'saturation_boost': False,
    'edge_filter': False,
  }
  results = {}
  for protocol, chooser in choosers.items():
    methods = {subject.name: subject.method}
    for name in compared:
      # Flow cannot reach a picture outside the clip.
      of_clip = protocol not in ('retrieved', 'none')
      of_reference = protocol != 'none' or name == 'gray'
      if of_reference and (of_clip or name != 'flow'):
        methods[name] = functools.partial(_baseline, BASELINES[name], size)
    results[protocol] = {}
    for clip in found_clips:
      stored = output / 'clips' / protocol / f'{clip.name}.json'
      key = hashlib.sha256(
        json.dumps(
          [
            *(settings, subject.identity, list(methods)),
            *(chooser.identity, clip.fingerprint),
          ]
        ).encode()
      ).hexdigest()
      pictures = report.Pictures(output, protocol, clip.name, list(methods))
      result = _read_stored(stored, key) if pictures.are_written() else None
      if result is None:
        values = _evaluate_clip(clip, chooser, methods, pictures)
        result = {'key': key, **values}
        with writing():
          stored.parent.mkdir(parents=True, exist_ok=True)
          files.write(stored, json.dumps(result))
      results[protocol][clip.name] = result
  summary = {
    'settings': settings,
    'protocols': {name: _summarize(x) for name, x in results.items()},
  }
  with writing():
    report.write(output, summary, results)
  print(report.markdown(summary))
  print(f'To look at: {output / "report.html"}')
  return summary


def _check_known(flag, names, known):
  for name in names:
    if name not in known:
      raise UserError(f'{flag}={name}: known are {", ".join(known)}')


def network(colorizer: Any, checkpoint: str | Path) -> Subject:
  """Returns the network as the subject of an evaluation.

  Colors are propagated from a frame of the clip both ways in time, as in `film`;
  frames before it are kept in memory.

  Args:
    colorizer: `VideoColorizer`, or an object with its `config`,
      `set_reference`, and `colorize`.
    checkpoint: file or folder of its weights.
  """

  def color(clip, references):
    start = references[0].index if references else None
    begin = functools.partial(
      colorizer.set_reference,
      *(given.rgb for given in references),
      first_frame=start is not None,
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
  identity = [_fingerprint(Path(checkpoint)), config.model.to_dict()]
  return Subject('vitexco', color, stated, identity)


def predictions(path: str) -> Subject:
  """Returns another method's results as the subject of an evaluation.

  Args:
    path: clips with the same names as in `--data`, except for the suffix of
      videos; a single one may have any name.

  Raises:
    UserError: there are no clips.
  """
  predicted = clips.find_clips('--predictions', path)
  return Subject(
    'predictions',
    functools.partial(_predicted, predicted),
    {'predictions': path},
    [clip.fingerprint for clip in predicted],
  )


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
    matches = predicted
  if len(matches) != 1:
    raise UserError(
      f'--predictions has {len(matches) or "no"} clips named {stem}, for the '
      f'clip {clip.name} of --data, among: '
      f'{", ".join(x.name for x in predicted)}'
    )
  (match,) = matches
  if match.count != clip.count:
    raise UserError(
      f'--predictions: {match.name} has {match.count} frames, but the clip '
      f'{clip.name} of --data has {clip.count}'
    )
  for stem, true in zip(match.stems or (), clip.stems or (), strict=False):
    if stem != true:
      raise UserError(
        f'--predictions: {match.name} has a frame {stem} where the clip '
        f'{clip.name} of --data has {true}'
      )
  return match.read()


def _baseline(function, size, clip, references):
  return function(clip.read, references, size)


class _Chooser:
  """Chooses a clip's references by a protocol.

  Attributes:
    identity: what the choice depends on besides the clip, as JSON.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    protocol: str,
    gallery: Path | None,
  ):
    self.identity = [protocol]
    self._protocol = protocol
    if protocol == 'retrieved':
      self._embed, self._gallery = open_with_embedder(config, gallery)
      self.identity.append(self._gallery.fingerprint)

  def __call__(self, clip: clips.Clip) -> tuple[list[Given], list[str]]:
    """Returns the references and their names."""
    last, middle = clip.count - 1, clip.count // 2
    if self._protocol == 'none':
      return [], []
    if self._protocol == 'retrieved':
      ((best,),) = self._gallery.best(self._embed(clip.frames(middle)), 1)
      number, _ = best
      given = Given(self._gallery.read(number), None)
      return [given], [self._gallery.name(number)]
    numbers = {'first-frame': [0], 'far-frame': [middle], 'multi': [0, last]}
    numbers = numbers[self._protocol]
    given = map(Given, clip.frames(*numbers), numbers)
    return list(given), [f'frame {number}' for number in numbers]


def _evaluate_clip(
  clip: clips.Clip,
  choose: _Chooser,
  methods: Mapping[str, Method],
  pictures: report.Pictures,
) -> dict[str, Any]:
  """Runs all methods in parallel over a clip and measures each frame."""
  count = clip.count
  if count < 2:
    raise UserError(f'{clip.name} has fewer than 2 frames')
  given, names = choose(clip)
  streams = [method(clip, given) for method in methods.values()]
  columns = set(np.linspace(0, count - 1, _STRIP_COLUMNS).round().astype(int))
  rows, histograms, pending = [], [], collections.deque()

  def finish():
    values, shares = pending.popleft().result()
    rows.append(values)
    histograms.append(shares)

  with (
    concurrent.futures.ThreadPoolExecutor(_THREADS) as pool,
    pictures,
    tqdm.tqdm(total=count, desc=clip.name, unit='frame') as bar,
  ):
    before = None
    for number, true_rgb in enumerate(clip.read()):
      colored = []
      for name, stream in zip(methods, streams, strict=True):
        rgb = next(stream, None)
        if rgb is None or rgb.shape != true_rgb.shape:
          raise UserError(
            f'{name}: frame {number} of {clip.name} is '
            + ('missing' if rgb is None else '{1}x{0}'.format(*rgb.shape[:2]))
            + ', the true frame is {1}x{0}'.format(*true_rgb.shape[:2])
          )
        colored.append(rgb)
      frame = Frame(number, true_rgb, colored)
      pending.append(pool.submit(measure, before, frame))
      pictures.add(true_rgb, colored, number in columns)
      before = frame
      if len(pending) > _IN_FLIGHT:
        finish()
      bar.update()
    while pending:
      finish()
  by_method = {}
  for place, name in enumerate([report.TRUTH, *methods]):
    values = [row[place] for row in rows]
    keys = {key: None for x in values for key in x}  # Not all rows have all.
    by_method[name] = {key: [x.get(key) for x in values] for key in keys}
    by_method[name]['cdc'] = metrics.cdc(
      np.stack([shares[place] for shares in histograms])
    )
  return {
    'size': list(before.true_rgb.shape[:2]),
    'frames': count,
    'references': names,
    'given': [x.index for x in given if x.index is not None],
    'uncounted': [given[0].index] if pictures.protocol == 'far-frame' else [],
    'methods': by_method,
  }


def measure(
  before: Frame | None, frame: Frame
) -> tuple[list[dict[str, float]], list[np.ndarray]]:
  """Computes the metrics of a frame for the truth and for each method.

  Args:
    before: the previous frame; None for the first.
    frame: every tenth frame also gets LPIPS vgg.

  Returns:
    Values and `metrics.histograms`, those of the truth first.
  """
  motion = None
  if before is not None:
    pair = before.true_rgb, frame.true_rgb
    forward = flow.estimate_flow(*pair, 'dis')
    backward = flow.estimate_flow(*pair[::-1], 'dis')
    motion = forward, flow.visible_mask(forward, backward)
  pictures = [frame.true_rgb, *frame.colored]
  earlier = [before.true_rgb, *before.colored] if before else pictures
  rows = []
  for rgb, rgb_before in zip(pictures, earlier, strict=True):
    values = {
      'colorfulness': metrics.colorfulness(rgb),
      'chroma': metrics.mean_chroma(rgb),
    }
    if motion is not None:
      values['warp_error'] = metrics.warp_error(rgb_before, rgb, *motion)
    if rgb is not frame.true_rgb:
      values |= _compare(rgb, frame.true_rgb, frame.number)
    rows.append(values)
  return rows, [metrics.histograms(rgb) for rgb in pictures]


def _compare(
  rgb: np.ndarray, true_rgb: np.ndarray, number: int
) -> dict[str, float]:
  """Computes the metrics that compare a frame with the true frame."""
  mean, percentile = metrics.ciede2000(rgb, true_rgb)
  values = {
    'psnr': metrics.psnr(rgb, true_rgb),
    'psnr_wrapped': metrics.psnr_wrapped(rgb, true_rgb),
    'ssim': metrics.ssim(rgb, true_rgb),
    'ciede2000': mean,
    'ciede2000_p90': percentile,
  }
  for net in ('alex', 'vgg'):
    if net == 'alex' or number % _LPIPS_VGG_EVERY == 0:
      distance = lpips.lpips(_lpips(net), rgb[None], true_rgb[None])
      values[f'lpips_{net}'] = float(distance[0])
  return values


_lpips = functools.cache(lpips.load_lpips)


def _summarize(results: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the means of each clip and the means over the clips."""
  rows = {}
  for name, result in results.items():
    true = result['methods'][report.TRUTH]
    rows[name] = {
      **{x: result[x] for x in ('size', 'frames', 'references')},
      'methods': {
        method: _means(values, true, result)
        for method, values in result['methods'].items()
      },
    }
  by_method = collections.defaultdict(lambda: collections.defaultdict(list))
  for row in rows.values():
    for method, values in row['methods'].items():
      for key, value in values.items():
        by_method[method][key].append(value)
  means = {
    method: {key: _mean(x) for key, x in values.items()}
    for method, values in by_method.items()
  }
  return {'mean': means, 'clips': rows}


def _means(
  values: Mapping[str, Any],
  true: Mapping[str, Any],
  result: Mapping[str, Any],
) -> dict[str, float | None]:
  """Returns a method's values for a clip."""
  counted = [i for i in range(result['frames']) if i not in result['uncounted']]
  free = [i for i in counted if i not in result['given']]
  row = {}
  for key, series in values.items():
    if key != 'cdc':
      row[key] = _mean([series[i] for i in counted])
  row['cdc'] = values['cdc']
  if 'psnr' in values:
    for key in ('psnr', 'ssim'):
      row[f'{key}_not_given'] = _mean([values[key][i] for i in free])
    row['psnr_last'] = _mean([values['psnr'][i] for i in counted[-_LAST:]])
    row['colorfulness_gap'] = row['colorfulness'] - _mean(
      [true['colorfulness'][i] for i in counted]
    )
    row['drift'] = metrics.drift(values['chroma'], true['chroma'])
  return row


def _mean(values: Sequence[float | None]) -> float | None:
  """Returns the mean of the values that are not None."""
  known = [x for x in values if x is not None]
  return math.fsum(known) / len(known) if known else None


def _read_stored(path: Path, key: str) -> dict[str, Any] | None:
  """Returns the stored values of a clip if its key has not changed."""
  if not path.exists():
    return None
  result = json.loads(path.read_text())
  return result if result['key'] == key else None


def _fingerprint(path: Path) -> list[list[str | int]]:
  """Name, size, and modification time of a file or of all files in a folder."""
  files = sorted(path.rglob('*')) if path.is_dir() else [path]
  return [
    [str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns]
    for f in files
    if f.is_file()
  ]

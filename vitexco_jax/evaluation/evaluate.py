"""--mode=evaluate: how close colors come to the truth, ours or anybody's.

A *protocol* says which references a method is given of a clip, and which frames
count:

  first-frame  the clip's true first frame; all count
  far-frame    its middle frame, which does not count
  retrieved    the picture of a gallery that is most like the middle frame in
               gray; all count
  multi        the first and the last frame; all count

A *method* sees CIE L of each true frame, and yields colors at the source's size,
where they are compared with the truth. Values are means over a clip's frames, then
over clips. Beside the methods stands `truth`, for what is asked of a clip alone.

All values of a clip are kept under `clips/` of the output, with a key of all that
they depend on, and are not computed again: an evaluation that was cut off goes on
with the next clip.
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
from vitexco_jax.retrieval import embedding
from vitexco_jax.structs import Given

PROTOCOLS = ('first-frame', 'far-frame', 'retrieved', 'multi', 'none')
BASELINES = {
  'gray': baselines.gray,
  'flow': baselines.chained_flow,
  'transfer': baselines.color_transfer,
  'vgg16': baselines.match_vgg16,
}

_LPIPS_VGG_EVERY = 10  # Frames: it takes far longer than all the others.
_LAST = 10  # Frames at the end that have a mean of their own.
_STRIP_COLUMNS = 5
_THREADS = max(2, os.cpu_count() or 2)
_IN_FLIGHT = 2 * _THREADS  # Frames being compared; bounds the memory.

Method = Callable[[clips.Clip, Sequence[Given]], Iterator[np.ndarray]]


class Subject(NamedTuple):
  """What is evaluated."""

  name: str  # `vitexco` or `predictions`.
  method: Method
  stated: dict[str, Any]  # With the results.
  identity: Any  # All that its frames depend on beside the clips, for JSON.


class Frame(NamedTuple):
  """A frame of a clip, as the truth has it and as the methods have it."""

  number: int
  true_rgb: np.ndarray
  colored: list[np.ndarray]  # By method.


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
    config: its `use.size` is the working size, `retrieval` says how references
      are found.
    subject: of `network` or `predictions`.
    data: see `clips.find_clips`.
    output: a folder; see `report` for what is written there.
    protocols: some of `PROTOCOLS`.
    compared: names of `BASELINES`, to stand beside.
    gallery: where `retrieved` looks.

  Returns:
    What `summary.json` holds.

  Raises:
    UserError: a name is unknown; there are no clips, or one is broken or too
      short; the gallery or the predictions do not fit; the output cannot be
      written.
  """
  _check_known('--protocols', protocols, PROTOCOLS)
  _check_known('--baselines', compared, BASELINES)
  if 'retrieved' in protocols and gallery is None:
    raise UserError('--protocols=retrieved needs --gallery')
  found = clips.find_clips('--data', data)
  choosers = {x: _Chooser(config, x, gallery) for x in protocols}
  files.make_folder('--output', output)
  writing = functools.partial(files.explained, '--output', output)
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
      # Flow does not reach a picture that is not of the clip.
      of_clip = protocol not in ('retrieved', 'none')
      of_reference = protocol != 'none' or name == 'gray'
      if of_reference and (of_clip or name != 'flow'):
        methods[name] = functools.partial(_baseline, BASELINES[name], size)
    results[protocol] = {}
    for clip in found:
      kept = output / 'clips' / protocol / f'{clip.name}.json'
      key = hashlib.sha256(
        json.dumps(
          [
            *(settings, subject.identity, list(methods)),
            *(chooser.identity, clip.fingerprint),
          ]
        ).encode()
      ).hexdigest()
      pictures = report.Pictures(output, protocol, clip.name, list(methods))
      result = _read_kept(kept, key) if pictures.are_written() else None
      if result is None:
        values = _evaluate_clip(clip, chooser, methods, pictures)
        result = {'key': key, **values}
        with writing():
          kept.parent.mkdir(parents=True, exist_ok=True)
          files.write(kept, json.dumps(result))
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
  """The network as what is evaluated.

  From a frame of the clip colors go both ways in time, as in `film`; those before
  it are held meanwhile.

  Args:
    colorizer: `colorize.VideoColorizer`, or what has its `config`,
      `set_reference` and `colorize`.
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
  """Another method's frames as what is evaluated.

  Args:
    path: holds clips as `--data` does, of the same names but for the suffix of
      videos; a single one may have any name.

  Raises:
    UserError: it holds none.
  """
  found = clips.find_clips('--predictions', path)
  return Subject(
    'predictions',
    functools.partial(_predicted, found),
    {'predictions': path},
    [clip.fingerprint for clip in found],
  )


def _predicted(
  found: Sequence[clips.Clip], clip: clips.Clip, references: Sequence[Given]
) -> Iterator[np.ndarray]:
  """Frames that another method made of a clip, once they are seen to fit."""
  del references
  stem = Path(clip.name).stem
  mine = [x for x in found if Path(x.name).stem == stem]
  if not mine and len(found) == 1:
    mine = found
  if len(mine) != 1:
    raise UserError(
      f'--predictions has {len(mine) or "no"} clips named {stem}, for the clip '
      f'{clip.name} of --data, among: {", ".join(x.name for x in found)}'
    )
  (mine,) = mine
  if mine.count != clip.count:
    raise UserError(
      f'--predictions: {mine.name} has {mine.count} frames, but the clip '
      f'{clip.name} of --data has {clip.count}'
    )
  for ours, theirs in zip(mine.stems or (), clip.stems or (), strict=False):
    if ours != theirs:
      raise UserError(
        f'--predictions: {mine.name} has a frame {ours} where the clip '
        f'{clip.name} of --data has {theirs}'
      )
  return mine.read()


def _baseline(function, size, clip, references):
  return function(clip.read, references, size)


class _Chooser:
  """Chooses a clip's references, as a protocol says.

  Attributes:
    identity: all that the choice depends on beside the clip, for JSON.
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
      self._embed, self._gallery = embedding.open_with_embedder(config, gallery)
      self.identity.append(self._gallery.fingerprint)

  def __call__(self, clip: clips.Clip) -> tuple[list[Given], list[str]]:
    """Returns the references, and what they are called."""
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
  """Runs all methods over a clip in step, and measures as they go."""
  count = clip.count
  if count < 2:
    raise UserError(f'{clip.name} has fewer than the 2 frames that it takes')
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
            + ', the true one {1}x{0}'.format(*true_rgb.shape[:2])
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
    keys = {key: None for x in values for key in x}  # Not all have all.
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
  """Measures a frame, the true one and each method's.

  Args:
    before: the frame before; None at the first.
    frame: every tenth one is measured by LPIPS vgg too.

  Returns:
    Values and `metrics.histograms`, the truth's first.
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
  """What compares a frame with the true one."""
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
  """Each clip's means, and the means of these."""
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
  """A method's values of a clip."""
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
  """The mean of those that there are."""
  there = [x for x in values if x is not None]
  return math.fsum(there) / len(there) if there else None


def _read_kept(path: Path, key: str) -> dict[str, Any] | None:
  """What is kept of a clip, if all that it depends on is still the same."""
  if not path.exists():
    return None
  result = json.loads(path.read_text())
  return result if result['key'] == key else None


def _fingerprint(path: Path) -> list[list[str | int]]:
  """Name, size and time of change of a file, or of all files in a folder."""
  files = sorted(path.rglob('*')) if path.is_dir() else [path]
  return [
    [str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns]
    for f in files
    if f.is_file()
  ]

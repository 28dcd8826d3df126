"""--mode=inspect: writes a page that shows a training set and likely errors.

`index.html` contains everything including pictures; `samples.png` has only the
samples. A *pair* is a frame and the next frame of its run. Its *error* is the mean
absolute difference of lightness, of 255, between the earlier frame and the later
frame warped back along the flow, over visible pixels. The same without flow is shown
for comparison. Wrong flow makes the error large, a wrong direction most of all, so
the measured pairs with the largest errors are shown first.
"""

import base64
import collections
import html
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import ml_collections
import numpy as np

from vitexco_jax import files
from vitexco_jax.data import input_pipeline, records
from vitexco_jax.errors import UserError
from vitexco_jax.media import image_grid
from vitexco_jax.media.video import write_image

_logger = logging.getLogger(__name__)

_MEASURED = 200  # Pairs, drawn at random.
_WORST, _RANDOM = 6, 12  # Numbers of pairs to show.
_SHOWN = ('earlier', 'later', 'flow', 'visible', 'later, warped back')


class Pair(NamedTuple):
  """Two neighboring frames, and the error of the flow between them."""

  number: int  # Record of the earlier frame.
  earlier: records.Record
  later: records.Record
  flow: np.ndarray  # [h, w, 2] float32
  visible: np.ndarray  # [h, w, 1] uint8
  warped_back: np.ndarray  # [h, w, 3] uint8, the later frame.
  error: float
  error_without: float

  @property
  def title(self) -> str:
    """The source of the pair."""
    return f'{self.earlier.video}, frame {self.earlier.index}'


def inspect(config: ml_collections.ConfigDict, output: Path) -> Path:
  """Writes the page for the records of a config.

  Args:
    config: names the records, `data.records`, and the `seed` of the samples.
    output: a folder.

  Returns:
    The path of the page.

  Raises:
    UserError: there are no records, or `output` cannot be written.
  """
  opened = input_pipeline.open_records(
    config.data, config.train.clip_length, config.variant
  )
  files.make_folder('output', output)
  broken: list[str] = []
  pairs = list(_measure(opened, np.random.default_rng(config.seed), broken))
  if not pairs:
    raise UserError(f'no pair of the records at {opened.folder} can be read')
  shown = pairs[:_RANDOM]
  worst = sorted(pairs, key=lambda pair: -pair.error)[:_WORST]
  page = _PAGE.format(
    title=html.escape(str(opened.folder)),
    summary=_table(_summary(opened, pairs)),
    settings=_table(_flatten(opened.settings)),
    lengths=_picture(_histogram([run.frames for run in opened.runs])),
    left_out=_left_out(opened.left_out),
    broken=''.join(f'<li>{html.escape(name)}' for name in broken) or '<li>none',
    wheel=_picture(flow_picture(_wheel())),
    worst=''.join(_sample(opened, pair) for pair in worst),
    samples=''.join(_sample(opened, pair) for pair in shown),
  )
  with files.explained('output', output):
    write_image(output / 'samples.png', _strip(opened, shown))
    files.write(output / 'index.html', page)
  _logger.info(f'Wrote {output / "index.html"} and {output / "samples.png"}')
  return output / 'index.html'


def _measure(
  opened: records.Records, rng: np.random.Generator, broken: list[str]
) -> Iterator[Pair]:
  """Yields random pairs; adds unreadable records to `broken`."""
  numbers = np.concatenate(
    [run.first + np.arange(run.frames - 1) for run in opened.runs]
  )
  for number in rng.permutation(numbers)[:_MEASURED]:
    try:
      earlier, later = opened.read(int(number)), opened.read(int(number) + 1)
      yield _compare(int(number), earlier, later)
    except records.BrokenRecord as error:
      broken.append(str(error))


def _compare(
  number: int, earlier: records.Record, later: records.Record
) -> Pair:
  flow, visible = earlier.motion()
  before, after = earlier.rgb(), later.rgb()
  height, width = visible.shape[:2]
  y, x = np.mgrid[:height, :width].astype(np.float32)
  back = cv2.remap(after, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)

  def error(rgb: np.ndarray) -> float:
    gray = [cv2.cvtColor(z, cv2.COLOR_RGB2GRAY) for z in (rgb, before)]
    difference = cv2.absdiff(*gray)[visible[..., 0] == 1]
    return float(difference.mean()) if difference.size else 0.0

  return Pair(
    number, earlier, later, flow, visible, back, error(back), error(after)
  )


def flow_picture(flow: np.ndarray, longest: float | None = None) -> np.ndarray:
  """Visualizes flow: hue shows its direction, saturation its length.

  Args:
    flow: [h, w, 2] float32, (dx, dy) in pixels. To the right is red, down
      yellow-green, left cyan, up violet.
    longest: pixels of full saturation; by default the 99th percentile.

  Returns:
    [h, w, 3] uint8; no motion is white.
  """
  length, angle = cv2.cartToPolar(flow[..., 0], flow[..., 1])
  if longest is None:
    longest = max(float(np.percentile(length, 99)), 0.1)
  hsv = np.empty((*flow.shape[:2], 3), np.uint8)
  hsv[..., 0] = np.uint8(angle * (90 / np.pi)) % 180
  hsv[..., 1] = np.uint8(255 * np.minimum(length / longest, 1))
  hsv[..., 2] = 255
  return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _wheel(radius: int = 60) -> np.ndarray:
  """Flow away from the center: the legend of `flow_picture`."""
  y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
  return np.stack([x, y], -1).astype(np.float32)


def _summary(opened: records.Records, pairs: list[Pair]) -> dict[str, str]:
  lengths = [run.frames for run in opened.runs]
  of_pairs = [len(pair.earlier.references) for pair in pairs]
  sizes = [pair.earlier.bytes / 1e3 for pair in pairs]
  speeds = [float(np.linalg.norm(pair.flow, axis=-1).mean()) for pair in pairs]
  visible = [float(pair.visible.mean()) for pair in pairs]
  return {
    'videos and pictures': f'{len({run.video for run in opened.runs}):,}',
    'runs': f'{len(lengths):,}',
    'frames': f'{len(opened):,}',
    'pairs': f'{sum(lengths) - len(lengths):,}',
    'size': '{} x {}'.format(*opened.size),
    'on disk': f'{opened.bytes / 1e6:,.0f} MB',
    'references': f'{opened.references:,}',
    'fingerprint': opened.fingerprint,
    f'of {len(pairs)} random pairs:': '',
    'references of a pair': f'{np.mean(of_pairs):.1f}',
    'a frame with its flow': (
      f'{np.mean(sizes):.0f} KB, at most {np.max(sizes):.0f} KB'
    ),
    'motion': (
      f'{np.mean(speeds):.1f} pixels, in one pair {np.max(speeds):.1f}'
    ),
    'visible': f'{np.mean(visible):.0%}, in one pair {np.min(visible):.0%}',
    'error, of 255': (
      f'{np.mean([pair.error for pair in pairs]):.2f}; without flow '
      f'{np.mean([pair.error_without for pair in pairs]):.2f}'
    ),
  }


def _flatten(settings: dict, prefix: str = '') -> dict[str, str]:
  flat: dict[str, str] = {}
  for name, value in settings.items():
    if isinstance(value, dict):
      flat |= _flatten(value, f'{prefix}{name}.')
    else:
      flat[prefix + name] = json.dumps(value)
  return flat


def _left_out(left_out: dict[str, str]) -> str:
  """Lists names by reason, the most frequent first, ignoring numbers in it."""
  groups = collections.defaultdict(list)
  for name, reason in left_out.items():
    kind = 'a part: ' if re.search(r' frames\)$', reason) else ''
    kind += re.sub(r' \(.*?\)', '', reason)
    groups[kind].append(f'{name}: {reason}')
  if not groups:
    return '<p>Nothing was left out.</p>'
  return ''.join(
    f'<details><summary>{len(names)} &times; {html.escape(kind)}</summary><ul>'
    + ''.join(f'<li>{html.escape(name)}' for name in names)
    + '</ul></details>'
    for kind, names in sorted(groups.items(), key=lambda x: -len(x[1]))
  )


def _histogram(lengths: list[int], height: int = 80) -> np.ndarray:
  """Draws a bar chart: number of runs by number of frames."""
  counts = np.bincount(lengths)[1:]
  bar = max(2, min(12, 600 // len(counts)))
  picture = np.full((height + 14, bar * len(counts), 3), 255, np.uint8)
  for place, count in enumerate(counts):
    top = height - round(height * count / counts.max())
    picture[top:height, bar * place : bar * place + bar - 1] = (70, 110, 170)
  for place in (0, len(counts) - 1):
    text = str(place + 1)
    x = min(bar * place, picture.shape[1] - 8 * len(text))
    cv2.putText(
      picture, text, (max(x, 0), height + 12), 0, 0.38, (60, 60, 60), 1, 16
    )
  return picture


def _table(rows: dict[str, str]) -> str:
  return ''.join(
    f'<tr><th>{html.escape(name)}<td>{html.escape(value)}'
    for name, value in rows.items()
  )


def _pictures(pair: Pair) -> list[np.ndarray]:
  """Returns the pictures of a pair in the order of `_SHOWN`."""
  visible = np.repeat(255 * pair.visible, 3, -1)
  return [
    pair.earlier.rgb(),
    pair.later.rgb(),
    flow_picture(pair.flow),
    visible,
    np.where(pair.visible == 1, pair.warped_back, np.uint8(128)),
  ]


def _references(
  opened: records.Records, pair: Pair
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields names and pictures; a broken picture is gray."""
  for number in pair.earlier.references:
    try:
      record = opened.read_reference(number)
      yield record.video, record.rgb()
    except records.BrokenRecord as error:
      yield str(error), np.full((*opened.size, 3), 128, np.uint8)


def _sample(opened: records.Records, pair: Pair) -> str:
  """Returns a pair as a row of the page."""
  longest = float(np.percentile(np.linalg.norm(pair.flow, axis=-1), 99))
  captions = list(_SHOWN)
  captions[2] += f', up to {longest:.1f} pixels'
  captions[3] += f': {pair.visible.mean():.0%}'
  cells = [*zip(captions, _pictures(pair), strict=True)]
  cells += _references(opened, pair)
  figures = ''.join(
    f'<figure>{_picture(rgb)}<figcaption>{html.escape(caption)}</figcaption>'
    '</figure>'
    for caption, rgb in cells
  )
  return (
    f'<h3>{html.escape(pair.title)}</h3><p>error {pair.error:.2f}, without flow '
    f'{pair.error_without:.2f}; record {pair.number}</p><div>{figures}</div>'
  )


def _picture(rgb: np.ndarray) -> str:
  """Returns an image element with the picture, at most 240 pixels wide."""
  if rgb.shape[1] > 240 and rgb.shape[0] > 100:
    size = (240, round(rgb.shape[0] * 240 / rgb.shape[1]))
    rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
  encoded = cv2.imencode('.png', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1]
  text = base64.b64encode(encoded.tobytes()).decode()
  return f'<img src="data:image/png;base64,{text}">'


def _strip(opened: records.Records, pairs: list[Pair]) -> np.ndarray:
  """Draws the samples as one contact sheet, one column per sample."""
  rows = [*zip(*map(_pictures, pairs), strict=True)]
  labels = list(_SHOWN)
  references = [[rgb for _, rgb in _references(opened, x)] for x in pairs]
  blank = np.full((*opened.size, 3), 255, np.uint8)
  for place in range(max(map(len, references))):
    rows.append([(*x, *[blank] * 9)[place] for x in references])
    labels.append(f'reference {place + 1}')
  return image_grid.draw(rows, labels, width=160)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.45 sans-serif; margin: 2em; color: #222; max-width: 1560px }}
h1 {{ font-size: 1.5em }} h2 {{ margin-top: 2em; border-bottom: 1px solid #ccc }}
h3 {{ margin: 1.4em 0 0; font-size: 1em }} p {{ margin: .2em 0 .5em }}
th {{ text-align: left; font-weight: normal; padding-right: 2em; color: #666 }}
figure {{ display: inline-block; margin: 0 6px 8px 0; vertical-align: top }}
figcaption {{ font-size: .8em; color: #666; max-width: 240px;
  overflow-wrap: anywhere }}
.side {{ display: flex; gap: 4em; flex-wrap: wrap }}
summary {{ cursor: pointer }}
</style></head><body>
<h1>Training set {title}</h1>
<div class="side"><table>{summary}</table>
<div><p>Runs by number of frames</p>{lengths}
<p>Prepared with</p><table>{settings}</table></div></div>
<h2>Left out</h2>{left_out}
<h2>Unreadable records among the samples</h2><ul>{broken}</ul>
<h2>Largest errors</h2>
<div class="side"><p>Flow goes from the earlier frame to the later one. The later
frame warped back along the flow should look like the earlier one; pixels that are
not visible are gray. A large error may be right if there is much motion; an error
larger than without flow is wrong.</p><figure>{wheel}<figcaption>direction of
flow</figcaption></figure></div>
{worst}
<h2>Random pairs</h2>{samples}
</body></html>
"""

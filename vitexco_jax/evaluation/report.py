"""The report of an evaluation, in its output folder.

report.html     everything in one file: tables, plots, videos side by side
report.md       the tables
summary.json    the means of each clip and the means over the clips
clips.csv       the means of each clip, one line per method
frames.csv      the values of every frame
PROTOCOL/       NAME.png, a contact sheet of five frames with error maps; NAME.mp4,
                the truth and all methods side by side; NAME.jpg, its poster;
                NAME_psnr.png, PSNR over time
"""

import base64
import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from vitexco_jax import color, files
from vitexco_jax.evaluation import metrics
from vitexco_jax.media import image_grid, video

TRUTH = 'truth'

_CELL = 384  # Width of a picture in the videos, in pixels.
_CELLS = 3  # Pictures per row.
_LABEL = 22  # Height of a label, in pixels.
_WORST = 40.0  # Distance in ab that is white in an error map.
_CRF = 24  # Of the videos, which are all embedded in the page.


class _Column(NamedTuple):
  """A column of the tables."""

  title: str
  decimals: int
  better: int = 0  # 1: larger values are better, -1: smaller ones, 0: neither.


_COLUMNS = {
  'psnr': _Column('PSNR, dB', 2, 1),
  'psnr_not_given': _Column('PSNR without given frames', 2, 1),
  'psnr_last': _Column('PSNR of the last ten frames', 2, 1),
  'ssim': _Column('SSIM', 4, 1),
  'ssim_not_given': _Column('SSIM without given frames', 4, 1),
  'lpips_alex': _Column('LPIPS (AlexNet)', 4, -1),
  'lpips_vgg': _Column('LPIPS (VGG16)', 4, -1),
  'ciede2000': _Column('color error (CIEDE2000)', 2, -1),
  'ciede2000_p90': _Column('color error, 90th percentile', 2, -1),
  'colorfulness': _Column('colorfulness', 1),
  'colorfulness_gap': _Column('colorfulness minus that of the truth', 1),
  'cdc': _Column('change of color over time (CDC)', 6),
  'cdc_gap': _Column('distance of CDC to the truth', 6, -1),
  'warp_error': _Column('flicker along motion (warp error)', 6, -1),
  'drift': _Column('loss of chroma per 100 frames (drift)', 2),
  'psnr_wrapped': _Column('PSNR with wrapped bytes', 2),
}
_EXPLAINED = (
  'Bold: the best method. PSNR is of RGB with a peak of 255; an equal frame counts '
  'as 100. *Given* frames are those that the method got as references. A change of '
  'color below that of the truth means washed-out colors. *Drift*: change of '
  'chroma relative to the truth. *PSNR with wrapped bytes* is the value of '
  'scripts that subtract bytes, only for comparison with these. LPIPS (VGG16) is of '
  'every tenth frame. Error maps show the distance to the true color: black 0, '
  f'white {_WORST} or more in ab. For its numbers the paper does not state clips, '
  'size, reference, or LPIPS network.'
)

# Table I of the paper: PSNR, SSIM, LPIPS.
_PUBLISHED = {
  'Iizuka 2016': (23.88, 0.947, 0.176),
  'Zhang 2016': (22.57, 0.947, 0.106),
  'Zhang 2017': (24.88, 0.949, 0.116),
  'Su 2020': (25.65, 0.951, 0.082),
  'Lei 2019': (25.98, 0.967, 0.172),
  'Liu 2021': (26.34, 0.962, 0.175),
  'DeepRemaster': (27.03, 0.964, 0.057),
  'DEVC': (28.64, 0.972, 0.041),
  'Vitexco': (28.88, 0.979, 0.042),
}


class Pictures:
  """Draws a clip's contact sheet and video frame by frame; a context manager.

  They are written at the end of the `with` block, unless it ends with an exception.
  A `UserError` is raised if they cannot be written.
  """

  def __init__(
    self, output: Path, protocol: str, clip: str, methods: Sequence[str]
  ) -> None:
    """Sets the content; `output` is the folder of the evaluation."""
    self.protocol = protocol
    folder = output / protocol
    self._strip, self._video = folder / f'{clip}.png', folder / f'{clip}.mp4'
    self._poster = folder / f'{clip}.jpg'
    self._labels = [TRUTH, *methods]
    self._columns: list[list[np.ndarray]] = []
    self._posters: list[np.ndarray] = []
    self._writer: video.VideoWriter | None = None

  def are_written(self) -> bool:
    """Whether all exist from an earlier evaluation."""
    paths = self._strip, self._video, self._poster
    return all(path.exists() for path in paths)

  def __enter__(self) -> 'Pictures':
    return self

  def add(
    self, true_rgb: np.ndarray, colored: Sequence[np.ndarray], in_strip: bool
  ) -> None:
    """Adds a frame, [h, w, 3] uint8 each, to the video and maybe the sheet."""
    pictures = [true_rgb, *colored]
    frame = _side_by_side(pictures, self._labels)
    if in_strip:
      errors = (_error_map(rgb, true_rgb) for rgb in colored)
      self._columns.append([*pictures, *errors])
      self._posters.append(frame)
    if self._writer is None:
      form = video.Format(*frame.shape[:2])
      self._writer = video.VideoWriter(
        self._video, form, overwrite=True, coding=video.Coding(quality=_CRF)
      )
    self._writer.write(video.Frame(frame))

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
    if self._writer is None:
      return
    if kind is not None:
      self._writer.abort()
      return
    self._writer.close()
    rows = list(zip(*self._columns, strict=True))
    labels = [*self._labels, *(f'error of {x}' for x in self._labels[1:])]
    video.write_image(self._strip, image_grid.draw(rows, labels))
    video.write_image(self._poster, self._posters[len(self._posters) // 2])


def _error_map(rgb: np.ndarray, true_rgb: np.ndarray) -> np.ndarray:
  """Draws the distance of ab to the truth, [h, w, 1] uint8."""
  lab, true_lab = (color.uint8_to_lab(jnp.asarray(x)) for x in (rgb, true_rgb))
  distance = np.linalg.norm(np.asarray(lab - true_lab)[..., 1:], axis=-1)
  return (255 * (distance / _WORST).clip(0, 1)).astype(np.uint8)[..., None]


def _side_by_side(
  pictures: Sequence[np.ndarray], labels: Sequence[str]
) -> np.ndarray:
  """Arranges equally sized pictures in rows, with labels and even sides."""
  height, width = pictures[0].shape[:2]
  width, height = min(width, _CELL), round(height * min(1, _CELL / width))
  width, height = width // 2 * 2, height // 2 * 2
  per_row = min(_CELLS, len(pictures))
  rows = -(-len(pictures) // per_row)
  frame = np.full((rows * (height + _LABEL), per_row * width, 3), 255, np.uint8)
  for place, (rgb, label) in enumerate(zip(pictures, labels, strict=True)):
    top = place // per_row * (height + _LABEL)
    left = place % per_row * width
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    frame[top + _LABEL :, left:][:height, :width] = small
    cv2.putText(
      frame,
      label,
      (left + 4, top + 16),
      cv2.FONT_HERSHEY_SIMPLEX,
      0.5,
      (32, 32, 32),
      1,
      cv2.LINE_AA,
    )
  return frame


def write(
  output: Path, summary: Mapping[str, Any], results: Mapping[str, Any]
) -> None:
  """Writes all files of the report except those of `Pictures`.

  Args:
    output: the folder of the evaluation.
    summary: the result of `evaluate.evaluate`.
    results: for each protocol and clip the stored values: per method, the values of
      each frame.

  Raises:
    OSError: a file cannot be written.
  """
  for protocol, clips in results.items():
    for name, result in clips.items():
      path = output / protocol / f'{name}_psnr.png'
      files.write(path, _plot(result))
  files.write(output / 'summary.json', json.dumps(summary, indent=2))
  files.write(output / 'clips.csv', _clips_csv(summary))
  files.write(output / 'frames.csv', _frames_csv(results))
  files.write(output / 'report.md', markdown(summary) + '\n')
  files.write(output / 'report.html', _page(output, summary))


def markdown(summary: Mapping[str, Any]) -> str:
  """Returns the tables of all protocols in Markdown."""
  parts = [_stated(summary['settings'])]
  for protocol, tables in summary['protocols'].items():
    clips = tables['clips']
    frames = sum(row['frames'] for row in clips.values())
    parts.append(f'## {protocol}\n\n{len(clips)} clips, {frames} frames.')
    parts += map(_as_markdown, _tables(tables))
  parts += ['## Published, on DAVIS', _as_markdown(_published()), _EXPLAINED]
  return '\n\n'.join(parts)


def _stated(settings: Mapping[str, Any]) -> str:
  height, width = settings['working_size']
  subject = ', '.join(
    f'{name} {settings[name]}'
    for name in ('checkpoint', 'predictions', 'temperature')
    if name in settings
  )
  return (
    f'Evaluation of {subject}. Input: {settings["input"]}; working size within '
    f'{width}x{height}, output at the size of the source; no boost of '
    'saturation, no edge filter.'
  )


def _tables(tables: Mapping[str, Any]) -> list[list[list[str]]]:
  """Returns the means by method, and the PSNR of each clip."""
  means = tables['mean']
  used = [
    column
    for column in _COLUMNS
    if any(row.get(column) is not None for row in means.values())
  ]
  table = [['method', *(_COLUMNS[column].title for column in used)]]
  numbers = [
    _numbers({x: row.get(column) for x, row in means.items()}, column)
    for column in used
  ]
  table += map(list, zip(means, *numbers, strict=True))
  methods = [method for method in means if 'psnr' in means[method]]
  by_clip = [['PSNR', 'size', 'frames', 'references', *methods]]
  for name, row in tables['clips'].items():
    height, width = row['size']
    cells = _numbers({x: row['methods'][x]['psnr'] for x in methods}, 'psnr')
    references = ', '.join(row['references'])
    by_clip.append(
      [name, f'{width}x{height}', str(row['frames']), references, *cells]
    )
  return [table, by_clip]


def _published() -> list[list[str]]:
  """The paper's Table I."""
  rows = [[name, *map(str, values)] for name, values in _PUBLISHED.items()]
  return [['as printed in the paper', 'PSNR', 'SSIM', 'LPIPS'], *rows]


def _numbers(values: Mapping[str, float | None], column: str) -> list[str]:
  """Formats the values by method; the best of several is **bold**."""
  _, decimals, better = _COLUMNS[column]
  known = [
    better * x
    for method, x in values.items()
    if x is not None and method != TRUTH
  ]
  best = max(known) if better and len(known) > 1 else None

  def format_value(method: str, value: float | None) -> str:
    text = '' if value is None else f'{value:.{decimals}f}'
    is_best = value is not None and better * value == best and method != TRUTH
    return f'**{text}**' if is_best else text

  return [format_value(*item) for item in values.items()]


def _as_markdown(table: list[list[str]]) -> str:
  head, *rows = (f'| {" | ".join(cells)} |' for cells in table)
  return '\n'.join([head, '|---' * len(table[0]) + '|', *rows])


def _as_html(table: list[list[str]]) -> str:
  head, *rows = table
  cells = ''.join(f'<th>{html.escape(cell)}' for cell in head)
  lines = [f'<tr>{cells}']
  for row in rows:
    cells = ''.join(
      f'<td><b>{html.escape(cell[2:-2])}</b>'
      if cell.startswith('**')
      else f'<td>{html.escape(cell)}'
      for cell in row
    )
    lines.append(f'<tr>{cells}')
  return f'<table>{"".join(lines)}</table>'


def _clips_csv(summary: Mapping[str, Any]) -> str:
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['protocol', 'clip', 'method', 'frames', *_COLUMNS])
  for protocol, tables in summary['protocols'].items():
    for clip, row in tables['clips'].items():
      for method, values in row['methods'].items():
        cells = [values.get(column) for column in _COLUMNS]
        writer.writerow([protocol, clip, method, row['frames'], *cells])
  return text.getvalue()


def _frames_csv(results: Mapping[str, Any]) -> str:
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  names = {
    name: None
    for clips in results.values()
    for result in clips.values()
    for values in result['methods'].values()
    for name, series in values.items()
    if isinstance(series, list)
  }
  writer.writerow(['protocol', 'clip', 'method', 'frame', *names])
  for protocol, clips in results.items():
    for clip, result in clips.items():
      for method, values in result['methods'].items():
        for frame in range(result['frames']):
          cells = [values[x][frame] if x in values else None for x in names]
          writer.writerow([protocol, clip, method, frame, *cells])
  return text.getvalue()


def _plot(result: Mapping[str, Any]) -> bytes:
  """PSNR over time of each method, as PNG."""
  figure = Figure(figsize=(7, 3), layout='constrained')
  axes = figure.subplots()
  for method, values in result['methods'].items():
    if 'psnr' in values:
      # Without equal frames, next to which all other values would look flat.
      finite = [x if x < metrics.MAX_PSNR else np.nan for x in values['psnr']]
      axes.plot(finite, label=method, linewidth=1.4)
  for frame in result['given']:
    axes.axvline(frame, color='0.7', linewidth=1, linestyle='--')
  axes.set(xlabel='frame (dashed: given)', ylabel='PSNR, dB')
  axes.grid(alpha=0.3)
  axes.legend()
  png = io.BytesIO()
  figure.savefig(png, dpi=100)
  return png.getvalue()


def _page(output: Path, summary: Mapping[str, Any]) -> str:
  """Returns the report as a page that needs no other file."""
  parts = []
  for protocol, tables in summary['protocols'].items():
    parts.append(f'<h2>{html.escape(protocol)}</h2>')
    parts += map(_as_html, _tables(tables))
    for name, row in tables['clips'].items():
      folder = output / protocol
      references = html.escape(', '.join(row['references']))
      parts.append(
        f'<h3>{html.escape(name)}</h3><p>References: {references}</p>'
        '<video controls loop muted preload="none" poster="'
        f'{_embedded(folder / f"{name}.jpg", "image/jpeg")}" src="'
        f'{_embedded(folder / f"{name}.mp4", "video/mp4")}"></video>'
        f'<img src="{_embedded(folder / f"{name}.png", "image/png")}">'
        f'<img src="{_embedded(folder / f"{name}_psnr.png", "image/png")}">'
      )
  parts += ['<h2>Published, on DAVIS</h2>', _as_html(_published())]
  explained = html.escape(_EXPLAINED.replace('*', ''))
  return _PAGE.format(
    stated=html.escape(_stated(summary['settings'])),
    parts='\n'.join(parts),
    explained=explained,
  )


def _embedded(path: Path, kind: str) -> str:
  return f'data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Evaluation</title><style>
body {{ font: 15px/1.45 sans-serif; margin: 2em; color: #222; max-width: 1400px }}
h1 {{ font-size: 1.5em }} h2 {{ margin-top: 2em; border-bottom: 1px solid #ccc }}
table {{ border-collapse: collapse; margin: 1em 0; font-size: .85em }}
th, td {{ padding: .15em .6em; text-align: right; border-bottom: 1px solid #eee }}
th {{ font-weight: normal; color: #666; vertical-align: bottom }}
th:first-child, td:first-child {{ text-align: left }}
video, img {{ max-width: 100%; display: block }}
</style></head><body>
<h1>Evaluation</h1><p>{stated}</p>
{parts}
<p>{explained}</p>
</body></html>
"""

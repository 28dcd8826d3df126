"""Evaluation on clips whose colours are known.

Protocol `first-frame`: the clip's true first frame is the reference; the network
sees CIE L of each true frame; the result is compared with the truth at the
source's size, and so is grey, which is the truth's L alone. Values are means
over a clip's frames, then over clips. Frame 0 is given away by the reference,
so means without it stand beside.

The values of every clip are kept under `clips/` of the output, with a key of
all that they depend on, and are not computed again: an evaluation that was cut
off goes on with the next clip.
"""

import collections
import concurrent.futures
import csv
import functools
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import tqdm

from vitexco_jax import color, files, metrics, strips, video
from vitexco_jax.errors import UserError

PROTOCOL = 'first-frame'
_VALUES = ('psnr', 'ssim', 'grey_psnr', 'grey_ssim')  # Of each frame.
_VIDEO_SUFFIXES = (*video.VIDEO_SUFFIXES, '.mpg', '.webm')
_STRIP_COLUMNS = 5
_STRIP_ROWS = ('truth', 'grey', 'coloured')
_THREADS = max(2, os.cpu_count() or 2)
_IN_FLIGHT = 4 * _THREADS  # Frames being compared; bounds the memory.


def evaluate(
  config: ml_collections.ConfigDict,
  colorizer: Any,
  checkpoint: str | Path,
  data: str | Path,
  output: str | Path,
) -> dict[str, Any]:
  """Evaluates a colorizer on every clip of a folder and prints a table.

  Args:
    config: the colorizer's; its `use` is stated with the results.
    colorizer: `colorize.VideoColorizer`, or what has its `set_reference` and
      `colorize`.
    checkpoint: file or folder of the colorizer's weights; stated with the
      results, which are kept for these weights and `config.model` alone.
    data: folder of clips, each a folder of frames (as DAVIS has them) or a
      video.
    output: folder for `frames.csv` (every frame's values), `summary.json`,
      `clips/`, and `strips/`: five frames of each clip in the rows truth, grey
      and coloured.

  Returns:
    What `summary.json` holds: the protocol, the means, each clip's means.

  Raises:
    UserError: there are no clips, or one is broken or a single picture, or the
      output cannot be written.
  """
  data, output = Path(data), Path(output)
  paths = _find_clips(data)
  files.make_folder('--output', output)
  writing = functools.partial(files.explained, '--output', output)
  with writing():
    for folder in ('clips', 'strips'):
      (output / folder).mkdir(exist_ok=True)
  protocol = {
    'protocol': PROTOCOL,
    'input': 'CIE L of the true frame',
    'working_size': list(config.use.size),
    'output_size': 'source',
    'temperature': config.use.temperature,
    'saturation_boost': False,
    'edge_filter': False,
    'checkpoint': str(checkpoint),
  }
  weights = [_fingerprint(Path(checkpoint)), config.model.to_dict()]
  clips = {}
  for path in paths:
    kept = output / 'clips' / f'{path.name}.json'
    strip = output / 'strips' / f'{path.name}.png'
    key = _digest([protocol, weights, _fingerprint(path)])
    clip = _read_kept(kept, key)
    if clip is None or not strip.exists():
      values, picture = _evaluate_clip(colorizer, path)
      clip = {'key': key, **values}
      video.write_image(strip, picture)
      with writing():
        files.write(kept, json.dumps(clip))
    clips[path.name] = clip

  rows = {name: _summarize(clip) for name, clip in clips.items()}
  columns = [
    c for c in next(iter(rows.values())) if c not in ('size', 'frames')
  ]
  mean = {c: float(np.mean([row[c] for row in rows.values()])) for c in columns}
  summary = {**protocol, 'mean': mean, 'clips': rows}
  with writing():
    files.write(output / 'frames.csv', _frames_csv(clips))
    files.write(output / 'summary.json', json.dumps(summary, indent=2))
  print(_table(summary))
  return summary


def _find_clips(data: Path) -> list[Path]:
  """The clips of a folder: all folders and videos in it, by name."""
  if not data.is_dir():
    raise UserError(f'--data={data} is not a folder of clips')
  paths = sorted(
    path
    for path in data.iterdir()
    if not path.name.startswith('.')
    and (path.is_dir() or path.suffix.lower() in _VIDEO_SUFFIXES)
  )
  if not paths:
    raise UserError(
      f'--data={data} has no clips: give the folder that holds one folder of'
      ' frames, or one video, for each clip'
    )
  return paths


def _evaluate_clip(
  colorizer: Any, path: Path
) -> tuple[dict[str, Any], np.ndarray]:
  """Colours a clip and compares each frame while the next are coloured.

  Returns:
    The frames' size and values, and the clip's strip [h, w, 3] uint8.
  """
  count = _count_frames(path)
  if count < 2:
    raise UserError(f'{path} has fewer than the 2 frames that it takes')
  shown = set(np.linspace(0, count - 1, _STRIP_COLUMNS).round().astype(int))
  true_frames = collections.deque()  # Read, not yet coloured.

  def read(reader: video.VideoReader) -> Iterator[np.ndarray]:
    for frame in video.prefetch(reader):
      true_frames.append(frame.rgb)
      yield frame.rgb

  values, columns, pending = [], [], collections.deque()

  def finish(future: concurrent.futures.Future):
    frame_values, column = future.result()
    values.append(frame_values)
    if column is not None:
      columns.append(column)

  with video.VideoReader(path) as reader:
    colorizer.set_reference(next(reader).rgb, first_frame=True)
  with (
    video.VideoReader(path) as reader,
    concurrent.futures.ThreadPoolExecutor(_THREADS) as pool,
    tqdm.tqdm(total=count, desc=path.name, unit='frame') as bar,
  ):
    for i, rgb in enumerate(colorizer.colorize(read(reader))):
      true_rgb = true_frames.popleft()
      size = true_rgb.shape[:2]
      pending.append(pool.submit(_compare, rgb, true_rgb, i in shown))
      if len(pending) > _IN_FLIGHT:
        finish(pending.popleft())
      bar.update()
    while pending:
      finish(pending.popleft())
  if len(values) != count:
    raise RuntimeError(f'{path}: {len(values)} of {count} frames came back')
  by_name = zip(_VALUES, zip(*values, strict=True), strict=True)
  return (
    {'size': list(size), 'values': {k: list(v) for k, v in by_name}},
    strips.strip(list(zip(*columns, strict=True)), _STRIP_ROWS),
  )


def _count_frames(path: Path) -> int:
  """Counts by decoding: a video's header may be wrong, and no clip is held."""
  with video.VideoReader(path) as reader:
    if reader.kind == 'folder':
      return reader.num_frames
    count = sum(1 for _ in reader)
    if reader.lost:
      raise UserError(
        f'{path} is damaged or cut short ({reader.lost} frames lost): copy it '
        'anew or take it out'
      )
    return count


def _compare(
  rgb: np.ndarray, true_rgb: np.ndarray, shown: bool
) -> tuple[tuple[float, ...], tuple[np.ndarray, ...] | None]:
  """A frame's `_VALUES`, and its column of the strip if it is shown."""
  grey = np.asarray(color.grey(true_rgb))
  values = (
    metrics.psnr(rgb, true_rgb),
    metrics.ssim(rgb, true_rgb),
    metrics.psnr(grey, true_rgb),
    metrics.ssim(grey, true_rgb),
  )
  return values, (true_rgb, grey, rgb) if shown else None


def _summarize(clip: dict[str, Any]) -> dict[str, Any]:
  """A clip's row of the table."""
  psnr, ssim, grey_psnr, grey_ssim = (clip['values'][k] for k in _VALUES)
  return {
    'size': clip['size'],
    'frames': len(psnr),
    'psnr': float(np.mean(psnr)),
    'psnr_without_first': float(np.mean(psnr[1:])),
    'psnr_last_ten': float(np.mean(psnr[-10:])),
    'grey_psnr': float(np.mean(grey_psnr)),
    'grey_psnr_without_first': float(np.mean(grey_psnr[1:])),
    'ssim': float(np.mean(ssim)),
    'ssim_without_first': float(np.mean(ssim[1:])),
    'grey_ssim': float(np.mean(grey_ssim)),
    'grey_ssim_without_first': float(np.mean(grey_ssim[1:])),
  }


def _table(summary: dict[str, Any]) -> str:
  """The summary in Markdown."""
  columns = {
    'psnr': 'PSNR',
    'psnr_without_first': 'without frame 0',
    'psnr_last_ten': 'last ten',
    'grey_psnr': 'grey',
    'grey_psnr_without_first': 'without frame 0',
    'ssim': 'SSIM',
    'ssim_without_first': 'without frame 0',
    'grey_ssim': 'grey',
    'grey_ssim_without_first': 'without frame 0',
  }
  height, width = summary['working_size']
  lines = [
    f'Protocol {summary["protocol"]}; input {summary["input"]}; working size'
    f' within {width}x{height}, output at the size of the source; temperature'
    f' {summary["temperature"]:g}, no boost of saturation, no edge filter;'
    f' weights {summary["checkpoint"]}.',
    '',
    f'| clip | size | frames | {" | ".join(columns.values())} |',
    '|---|---|---|' + '---|' * len(columns),
  ]

  def line(name, size, frames, row):
    cells = [f'{row[c]:.{2 if "psnr" in c else 4}f}' for c in columns]
    return f'| {name} | {size} | {frames} | {" | ".join(cells)} |'

  total = 0
  for name, row in summary['clips'].items():
    height, width = row['size']
    lines.append(line(name, f'{width}x{height}', row['frames'], row))
    total += row['frames']
  lines.append(line('**mean**', '', total, summary['mean']))
  return '\n'.join(lines)


def _frames_csv(clips: dict[str, Any]) -> str:
  """Every frame's values as CSV: clip, frame, `_VALUES`."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['clip', 'frame', *_VALUES])
  for name, clip in clips.items():
    values = zip(*(clip['values'][k] for k in _VALUES), strict=True)
    writer.writerows([name, i, *row] for i, row in enumerate(values))
  return text.getvalue()


def _fingerprint(path: Path) -> list[list[str | int]]:
  """Name, size and time of change of a file, or of all files in a folder."""
  files = sorted(path.rglob('*')) if path.is_dir() else [path]
  return [
    [str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns]
    for f in files
    if f.is_file()
  ]


def _digest(content: Any) -> str:
  return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _read_kept(path: Path, key: str) -> dict[str, Any] | None:
  """Values kept of a clip, if what they depend on is still the same."""
  if not path.exists():
    return None
  clip = json.loads(path.read_text())
  return clip if clip['key'] == key else None

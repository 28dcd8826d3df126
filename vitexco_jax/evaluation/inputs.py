"""--mode=inputs: what a method gets in each protocol, as pictures.

So methods without a Python interface can be compared: they colorize these frames
from these references, and `--mode=evaluate --predictions=DIR` scores the result.

PROTOCOL/frames/CLIP/          the clip in gray (its CIE L), one PNG for each frame
PROTOCOL/references/CLIP/      color references as PNG; `ref_000012.png` shows frame 12
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import ml_collections
import numpy as np
import tqdm

from vitexco_jax import color, files
from vitexco_jax.evaluation import clips
from vitexco_jax.evaluation.protocols import Chooser, check_protocols
from vitexco_jax.media import video
from vitexco_jax.structs import Given

_logger = logging.getLogger(__name__)


def write_inputs(
  config: ml_collections.ConfigDict,
  data: str,
  output: Path,
  protocols: Sequence[str],
  gallery: Path | None = None,
) -> None:
  """Writes the gray frames and the references of all clips.

  Args:
    config: `retrieval` configures the search of references.
    data: see `clips.find_clips`.
    output: a folder.
    protocols: some of `PROTOCOLS`.
    gallery: for the protocol `retrieved`.

  Raises:
    UserError: a protocol is unknown or has no gallery; there are no clips, or one
      is broken; the output cannot be written.
  """
  check_protocols(protocols, gallery)
  all_clips = clips.find_clips('data', data)
  choosers = {x: Chooser(config, x, gallery) for x in protocols}
  files.make_folder('output', output)
  for protocol, choose in choosers.items():
    for clip in map(choose.change, all_clips):
      folder = output / protocol
      given, names = choose(clip)
      _write_references(folder / 'references' / clip.name, given, names)
      _write_gray(folder / 'frames' / clip.name, clip, protocol)
  _logger.info(
    f'Wrote {output}: {len(all_clips)} clips for each of: {", ".join(protocols)}'
  )


def _write_references(
  folder: Path, given: Sequence[Given], names: Sequence[str]
) -> None:
  files.make_folder('output', folder)
  for reference, name in zip(given, names, strict=True):
    stem = Path(name).stem
    if reference.frame is not None:
      stem = f'ref_{reference.frame:06d}'
    video.write_image(folder / f'{stem}.png', reference.rgb)


def _write_gray(folder: Path, clip: clips.Clip, protocol: str) -> None:
  """Writes the frames under the names that the clip's own frames have."""
  files.make_folder('output', folder)
  with tqdm.tqdm(
    total=clip.count, desc=f'{protocol} {clip.name}', unit='frame'
  ) as bar:
    for number, rgb in enumerate(clip.read()):
      stem = clip.stems[number] if clip.stems else f'{number:05d}'
      video.write_image(folder / f'{stem}.png', np.asarray(color.gray(rgb)))
      bar.update()

"""Protocols of an evaluation: the references of a clip, the frames that count.

first-frame  the clip's true first frame; all frames count
far-frame    the middle frame, which does not count
retrieved    the picture of a gallery that is most similar to the middle frame in
             gray; all frames count
multi        the first and the last frame; all frames count
none         no reference; all frames count
aged         as first-frame, of a clip with the faults of old film
edited-still as first-frame, with a brighter and sharper picture of that frame
entering     as first-frame, of a window of the clip into which content enters

See `clip_changes` for the last three.
"""

from collections.abc import Sequence
from pathlib import Path

import ml_collections

from vitexco_jax.errors import UserError
from vitexco_jax.evaluation import clip_changes, clips
from vitexco_jax.retrieval.gallery import open_with_embedder
from vitexco_jax.structs import Given

PROTOCOLS = (
  'first-frame',
  'far-frame',
  'retrieved',
  'multi',
  'none',
  'aged',
  'edited-still',
  'entering',
)
# Those that change the frames of a clip.
CHANGES = {'aged': clip_changes.age, 'entering': clip_changes.enter}


def check_protocols(protocols: Sequence[str], gallery: Path | None) -> None:
  """Raises UserError if a protocol is unknown, or needs a gallery."""
  for name in protocols:
    if name not in PROTOCOLS:
      raise UserError(f'`protocols={name}`: known are {", ".join(PROTOCOLS)}')
  if 'retrieved' in protocols and gallery is None:
    raise UserError('`protocols=retrieved` needs `gallery`')


class Chooser:
  """Chooses a clip's references by a protocol.

  Attributes:
    identity: everything but the clip on which the choice depends, as JSON.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    protocol: str,
    gallery: Path | None,
  ) -> None:
    self.identity = [protocol]
    self._protocol = protocol
    if protocol == 'retrieved':
      assert gallery is not None
      self._embed, self._gallery = open_with_embedder(config, gallery)
      self.identity.append(self._gallery.fingerprint)

  def change(self, clip: clips.Clip) -> clips.Clip:
    """Returns the clip to colorize."""
    return CHANGES.get(self._protocol, lambda clip: clip)(clip)

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
    indices = {'far-frame': [middle], 'multi': [0, last]}
    chosen = indices.get(self._protocol, [0])
    references = list(map(Given, clip.frames(*chosen), chosen))
    if self._protocol == 'edited-still':
      edited = clip_changes.edit_still(references[0].rgb)
      return [Given(edited, 0)], ['frame 0, edited']
    return references, [f'frame {index}' for index in chosen]

"""The loop that training and pretraining go through.

All hosts go through `run` in step (hosts.py); the first of them, host 0, alone
has the work directory.

A *micro-step* is one call of the step; `accumulation` of them make one *update*
of the parameters. Checkpoints count micro-steps, everything else updates.
"""

import contextlib
import functools
import json
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import flax
import jax
import ml_collections
import numpy as np
import tqdm

from vitexco_jax import files
from vitexco_jax.checkpoint import Checkpoints, load_config, write_config
from vitexco_jax.data import input_pipeline
from vitexco_jax.errors import UserError
from vitexco_jax.training import multihost
from vitexco_jax.training.logging import Log

AXIS = 'devices'


class State(Protocol):
  """All that a run needs to go on, but the data feed; a NamedTuple."""

  micro_step: jax.Array  # How many were taken.
  params: Mapping[str, Any]  # By group.


def run(
  config: ml_collections.ConfigDict,
  section: str,
  workdir: Path,
  feed: input_pipeline.Feed,
  init: Callable[[], State],
  load: Callable[[State], State],
  step: Callable[[State, Any], tuple[State, dict[str, jax.Array]]],
  draw: Callable[[Mapping[str, Any], Any], np.ndarray] | None = None,
  measure: Callable[[Mapping[str, Any], Any], dict[str, float]] | None = None,
  validate: Callable[[Mapping[str, Any]], Mapping[str, float]] | None = None,
  finish: Callable[[State], None] | None = None,
):
  """Steps until all updates are made, resuming what `workdir` holds.

  Args:
    config: the run's; the same on all hosts.
    section: of the config, that has `updates` and the like: `train`, say.
    workdir: where checkpoints, config and log live.
    feed: of this host's share of the batches.
    init: makes a fresh state; it is compiled.
    load: puts weights into it that the config names.
    step: to be pmapped over `AXIS`.
    draw: makes a picture strip of parameters and a batch, if there shall be any;
      `strip_every` says when.
    draw: makes a picture strip of parameters and a batch, if there shall be any;
      `strip_every` says when.
    measure: goes with `draw`, and makes figures for the log at the same times.
    validate: measures parameters on data that is held out, before each checkpoint.
    finish: is given the last state, unreplicated, on the first host.

  Raises:
    UserError: the config, what `workdir` holds or a loss cannot be gone on with,
      `workdir` cannot be written, or another host is lost.
    KeyboardInterrupt: Ctrl-C or SIGTERM came to a host, and the state is saved.
  """
  workdir = Path(workdir)
  settings = config[section]
  first = jax.process_index() == 0
  devices = jax.local_device_count()
  writing = functools.partial(files.explained, '--workdir', workdir)

  with multihost.failing_together():
    # Compiled as a whole, and kept: op by op it would take far longer.
    init = jax.jit(init)
    if first:
      files.make_folder('--workdir', workdir)
      with writing():
        checkpoints = Checkpoints(workdir)
      newest = checkpoints.latest_step()
      if newest is None:
        state, feed_state = load(init()), None
      else:
        _check_accumulation(config, section, workdir)
        state, feed_state = checkpoints.restore(newest, jax.eval_shape(init))
      with writing():
        write_config(workdir, config)
    else:
      state, feed_state = _empty(jax.eval_shape(init)), None
  state = multihost.from_first(state)
  feed_state = json.loads(multihost.gather(json.dumps(feed_state))[0])
  if feed_state:
    feed.set_state(feed_state)
  start = int(state.micro_step)

  step = jax.pmap(step, axis_name=AXIS, donate_argnums=0)
  # On a mesh of the name that `pmap` uses, or the step is compiled twice.
  state = flax.jax_utils.replicate(state, axis_name=AXIS)

  accumulation = settings.accumulation
  with writing():
    log = Log(workdir, settings, start, writes=first)
  updates = tqdm.tqdm(
    total=settings.updates,
    initial=start // accumulation,
    unit='update',
    dynamic_ncols=True,
    disable=not first,
  )

  def save(micro_step):
    log.flush(feed.skipped)  # Refuses a state that is not finite.
    if first:
      state_ = flax.jax_utils.unreplicate(state)
      checkpoints.save(micro_step, state_, feed.get_state())

  micro_step, stopped = start, False
  with (
    contextlib.closing(checkpoints) if first else contextlib.nullcontext(),
    contextlib.closing(log),
    updates,
    _interrupt_later() as interrupted,
  ):
    while micro_step < settings.updates * accumulation and not stopped:
      batch = next(feed)
      state, metrics = step(state, _shard(batch, devices))
      micro_step += 1
      log.add(micro_step, jax.tree.map(lambda x: x[0], metrics))
      if micro_step % accumulation:
        continue
      update = micro_step // accumulation
      updates.update()
      last = update == settings.updates
      stopped = multihost.anywhere(interrupted())
      looking = first and draw and update % settings.strip_every == 0
      with writing():
        if looking:
          params = flax.jax_utils.unreplicate(state.params)
          log.note(measure(params, batch))
        if update % settings.log_every == 0:
          updates.set_postfix_str(log.flush(feed.skipped))
        if looking:
          log.strip(update, draw(params, batch))
        due = update % settings.checkpoint_every == 0 or last
        if first and validate and due:
          params = flax.jax_utils.unreplicate(state.params)
          log.validation(update, validate(params))
        if due or stopped:
          save(micro_step)
  if first and finish and not stopped:
    with writing():
      finish(flax.jax_utils.unreplicate(state))
  multihost.part()
  if stopped:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _interrupt_later() -> Iterator[Callable[[], bool]]:
  """Yields whether Ctrl-C or SIGTERM came; a second one acts at once.

  In the midst of an update state, data feed and log do not belong together.
  """
  came = []

  def handle(*_):
    came.append(True)
    restore()

  def restore():
    for number, handler in before.items():
      signal.signal(number, handler)

  before = {
    number: signal.signal(number, handle)
    for number in (signal.SIGINT, signal.SIGTERM)
  }
  try:
    yield lambda: bool(came)
  finally:
    restore()


def check_same_config(config: ml_collections.ConfigDict):
  """Hosts that train differently would spoil each other's work."""
  texts = multihost.gather(json.dumps(config.to_dict()))
  first, *others = [
    flax.traverse_util.flatten_dict(json.loads(text), sep='.') for text in texts
  ]
  for host, other in enumerate(others, 1):
    for name in first:
      if other.get(name) != first[name]:
        raise UserError(
          f'config.{name} is {other.get(name)} on host {host}, but '
          f'{first[name]} on host 0: give all hosts the same command, but for '
          '--host'
        )


def micro_batch_size(
  config: ml_collections.ConfigDict, section: str, devices: int
) -> int:
  """Samples in a micro-step on all devices of all hosts together.

  Raises:
    UserError: micro-steps and devices cannot share the batch evenly, or a count
      is below 1.
  """
  settings = config[section]
  counts = ('updates', 'batch_size', 'accumulation')
  for name in (*counts, *(x for x in settings if x.endswith('_every'))):
    if settings[name] < 1:
      raise UserError(
        f'config.{section}.{name}={settings[name]} must be at least 1'
      )
  batch, accumulation = settings.batch_size, settings.accumulation
  if batch % (accumulation * devices):
    count = jax.process_count()
    of_hosts = f' of {count} hosts' if count > 1 else ''
    raise UserError(
      f'config.{section}.batch_size={batch} cannot be shared evenly by '
      f'config.{section}.accumulation={accumulation} micro-steps on {devices} '
      f'devices{of_hosts}: make it a multiple of {accumulation * devices}'
    )
  return batch // accumulation


def _check_accumulation(config, section, workdir):
  """Checkpoints count micro-steps: another number would shift all updates."""
  wanted = config[section].accumulation
  begun = load_config(workdir).get(section, config[section]).accumulation
  if wanted != begun:
    raise UserError(
      f'config.{section}.accumulation={wanted} cannot go on with '
      f'--workdir={workdir}, which was begun with {begun}: set it to {begun} or '
      'take another --workdir'
    )


def _empty(abstract):
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract)


def _shard(batch: Any, devices: int) -> Any:
  """Splits the batch: [b, ...] to [devices, b / devices, ...]."""
  # A -1 for the share would be undefined where a field is empty.
  return jax.tree.map(
    lambda x: x.reshape(devices, len(x) // devices, *x.shape[1:]), batch
  )

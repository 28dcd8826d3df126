"""The loop of training and pretraining.

All hosts execute `run` synchronously (`multihost`); only the first one, host 0,
accesses the work directory.

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
  """The state of a run without the data feed; a NamedTuple."""

  micro_step: jax.Array  # Number of completed micro-steps.
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
  """Runs all updates; resumes from the newest checkpoint in `workdir`.

  Args:
    config: of the run; the same on all hosts.
    section: the section of the config with `updates` etc., such as `train`.
    workdir: folder of checkpoints, config, and log.
    feed: this host's share of the batches.
    init: creates the initial state; it is compiled.
    load: loads weights named in the config into the state.
    step: the function to pmap over `AXIS`.
    draw: draws a contact sheet from parameters and a batch every `strip_every`
      updates; None: no contact sheets.
    measure: required with `draw`; computes values for the log at the same updates,
      from the first host's share of the batch.
    validate: computes metrics on held-out data before each checkpoint.
    finish: called with the final state, unreplicated, on the first host.

  Raises:
    UserError: the run cannot continue with the config, with the content of
      `workdir`, or with a loss; `workdir` cannot be written; or another host is
      lost.
    KeyboardInterrupt: a host got Ctrl-C or SIGTERM; the state is saved.
  """
  workdir = Path(workdir)
  settings = config[section]
  first = jax.process_index() == 0
  devices = jax.local_device_count()
  writing = functools.partial(files.explained, 'workdir', workdir)

  with multihost.failing_together():
    # Compile it as a whole: op by op it would take far longer.
    init = jax.jit(init)
    if first:
      files.make_folder('workdir', workdir)
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
  # With the axis name of `pmap`; otherwise the step is compiled twice.
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
    log.flush(feed.skipped)  # Raises an error if the state is not finite.
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
  """Yields a function that tests for Ctrl-C or SIGTERM; a second one acts at once.

  The run stops between updates, when state, data feed, and log are consistent.
  """
  received = []

  def handle(*_):
    received.append(True)
    restore()

  def restore():
    for number, handler in before.items():
      signal.signal(number, handler)

  before = {
    number: signal.signal(number, handle)
    for number in (signal.SIGINT, signal.SIGTERM)
  }
  try:
    yield lambda: bool(received)
  finally:
    restore()


def check_same_config(config: ml_collections.ConfigDict):
  """Raises UserError if the configs of the hosts differ."""
  texts = multihost.gather(json.dumps(config.to_dict()))
  first, *others = [
    flax.traverse_util.flatten_dict(json.loads(text), sep='.') for text in texts
  ]
  for host, other in enumerate(others, 1):
    for name in first:
      if other.get(name) != first[name]:
        raise UserError(
          f'config.{name} is {other.get(name)} on host {host}, but '
          f'{first[name]} on host 0: run the same command on all hosts, except '
          'for --host'
        )


def micro_batch_size(
  config: ml_collections.ConfigDict, section: str, devices: int
) -> int:
  """Samples in a micro-step on all devices of all hosts together.

  Raises:
    UserError: the batch cannot be divided evenly among micro-steps and devices.
  """
  settings = config[section]
  batch, accumulation = settings.batch_size, settings.accumulation
  if batch % (accumulation * devices):
    count = jax.process_count()
    of_hosts = f' of {count} hosts' if count > 1 else ''
    raise UserError(
      f'config.{section}.batch_size={batch} cannot be divided evenly among '
      f'config.{section}.accumulation={accumulation} micro-steps on {devices} '
      f'devices{of_hosts}: make it a multiple of {accumulation * devices}'
    )
  return batch // accumulation


def _check_accumulation(config, section, workdir):
  """Checks that accumulation is unchanged, since checkpoints count micro-steps."""
  now = config[section].accumulation
  before = load_config(workdir)[section].accumulation
  if now != before:
    raise UserError(
      f'config.{section}.accumulation={now} cannot continue '
      f'--workdir={workdir}, which was started with {before}: set it to {before} '
      'or use another --workdir'
    )


def _empty(abstract):
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract)


def _shard(batch: Any, devices: int) -> Any:
  """Splits the batch: [b, ...] to [devices, b / devices, ...]."""
  # -1 for the share would be ambiguous if a field is empty.
  return jax.tree.map(
    lambda x: x.reshape(devices, len(x) // devices, *x.shape[1:]), batch
  )

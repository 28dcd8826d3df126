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
from typing import Any, Protocol, Self, TypeVar

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
from vitexco_jax.training.logging import Log, accumulation

AXIS = 'devices'


class State(Protocol):
  """The state of a run without the data feed; a NamedTuple."""

  @property
  def micro_step(self) -> jax.Array:
    """Number of completed micro-steps."""

  @property
  def params(self) -> Mapping[str, Any]:
    """Parameters by group."""

  def _replace(self, *args: Any, **changes: Any) -> Self: ...


S = TypeVar('S', bound=State)


def run(
  config: ml_collections.ConfigDict,
  section: str,
  workdir: Path,
  feed: input_pipeline.Feed,
  init: Callable[[], S],
  load: Callable[[S], S],
  step: Callable[[S, Any], tuple[S, dict[str, jax.Array]]],
  draw: Callable[[Mapping[str, Any], Any], np.ndarray] | None = None,
  measure: Callable[[Mapping[str, Any], Any], dict[str, float]] | None = None,
  validate: Callable[[Mapping[str, Any]], Mapping[str, float]] | None = None,
  finish: Callable[[S], None] | None = None,
) -> None:
  """Runs all updates; resumes from the newest checkpoint in `workdir`.

  Args:
    config: of the run; the same on all hosts. It is saved in `workdir`.
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
  writing = functools.partial(files.explained, 'workdir', workdir)
  checkpoints, state = _begin(config, section, workdir, feed, init, load)
  micro_step = int(state.micro_step)
  with writing():
    log = Log(workdir, settings, micro_step, writes=first)
  recorder = _Recorder(
    settings, log, checkpoints, feed, draw, measure, validate
  )

  step = jax.pmap(step, axis_name=AXIS, donate_argnums=0)
  # With the axis name of `pmap`; otherwise the step is compiled twice.
  state = flax.jax_utils.replicate(state, axis_name=AXIS)
  micro_steps = accumulation(settings)
  stopped = False
  with (
    contextlib.closing(recorder),
    tqdm.tqdm(
      total=settings.updates,
      initial=micro_step // micro_steps,
      unit='update',
      dynamic_ncols=True,
      disable=not first,
    ) as progress,
    _interrupt_later() as interrupted,
  ):
    while micro_step < settings.updates * micro_steps and not stopped:
      batch = next(feed)
      state, metrics = step(state, _shard(batch, jax.local_device_count()))
      micro_step += 1
      log.add(micro_step, jax.tree.map(lambda x: x[0], metrics))
      if micro_step % micro_steps:
        continue
      progress.update()
      stopped = multihost.on_any_host(interrupted())
      with writing():
        line = recorder.record(state, batch, micro_step, stopped)
      if line:
        progress.set_postfix_str(line)
  if first and finish and not stopped:
    with writing():
      finish(flax.jax_utils.unreplicate(state))
  multihost.disconnect()
  if stopped:
    raise KeyboardInterrupt


def _begin(
  config: ml_collections.ConfigDict,
  section: str,
  workdir: Path,
  feed: input_pipeline.Feed,
  init: Callable[[], S],
  load: Callable[[S], S],
) -> tuple[Checkpoints | None, S]:
  """Creates or restores the state, and moves the feed to its position.

  Returns:
    The checkpoints, or None except on the first host; the state, equal on all hosts.

  Raises:
    UserError: the run cannot be resumed with this config, or the folder cannot be
      written.
  """
  writing = functools.partial(files.explained, 'workdir', workdir)
  checkpoints = feed_state = None
  with multihost.failing_together():
    # Compiled as a whole: one operation at a time would take far longer.
    init = jax.jit(init)
    if jax.process_index() != 0:
      state = _empty(jax.eval_shape(init))
    else:
      files.make_folder('workdir', workdir)
      with writing():
        checkpoints = Checkpoints(workdir)
      newest = checkpoints.latest_step()
      if newest is None:
        state = load(init())
      else:
        _check_accumulation(accumulation(config[section]), section, workdir)
        state, feed_state = checkpoints.restore(newest, jax.eval_shape(init))
      with writing():
        write_config(workdir, config)
  state = multihost.from_first(state)
  feed_state = json.loads(multihost.gather(json.dumps(feed_state))[0])
  if feed_state:
    feed.set_state(feed_state)
  return checkpoints, state


class _Recorder:
  """Writes the log, contact sheets and checkpoints of a run.

  All hosts have one, since all check that the metrics are finite; only the first
  one has checkpoints and writes files.
  """

  def __init__(
    self,
    settings: ml_collections.ConfigDict,
    log: Log,
    checkpoints: Checkpoints | None,
    feed: input_pipeline.Feed,
    draw: Callable[[Mapping[str, Any], Any], np.ndarray] | None,
    measure: Callable[[Mapping[str, Any], Any], dict[str, float]] | None,
    validate: Callable[[Mapping[str, Any]], Mapping[str, float]] | None,
  ) -> None:
    self._settings = settings
    self._log = log
    self._checkpoints = checkpoints
    self._feed = feed
    self._draw, self._measure, self._validate = draw, measure, validate

  def record(
    self, state: State, batch: Any, micro_step: int, stopped: bool
  ) -> str:
    """Writes what is due after an update.

    Args:
      state: the replicated state.
      batch: the last batch of this host.
      micro_step: number of completed micro-steps, a multiple of the accumulation.
      stopped: whether the run stops after this update.

    Returns:
      A line for the progress bar, or an empty string.

    Raises:
      UserError: a metric is not finite; the state is not saved.
    """
    settings, first = self._settings, self._checkpoints is not None
    update = micro_step // accumulation(settings)
    due = update % settings.checkpoint_every == 0 or update == settings.updates
    if (
      first
      and self._draw
      and self._measure
      and update % settings.strip_every == 0
    ):
      params = flax.jax_utils.unreplicate(state.params)
      self._log.note(self._measure(params, batch))
      self._log.strip(update, self._draw(params, batch))
    line = ''
    if update % settings.log_every == 0:
      line = self._log.flush(self._feed.skipped)
    if first and self._validate and due:
      params = flax.jax_utils.unreplicate(state.params)
      self._log.validation(update, self._validate(params))
    if due or stopped:
      self._log.flush(self._feed.skipped)  # Raises UserError if not finite.
      if self._checkpoints is not None:
        self._checkpoints.save(
          micro_step,
          flax.jax_utils.unreplicate(state),
          self._feed.get_state(),
        )
    return line

  def close(self) -> None:
    """Waits for the last checkpoint and closes the log."""
    try:
      self._log.close()
    finally:
      if self._checkpoints is not None:
        self._checkpoints.close()


@contextlib.contextmanager
def _interrupt_later() -> Iterator[Callable[[], bool]]:
  """Yields a function that tests for Ctrl-C or SIGTERM; a second one acts at once.

  The run stops between updates, when state, data feed, and log are consistent.
  """
  received = []

  def handle(*_: object) -> None:
    received.append(True)
    restore()

  def restore() -> None:
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


def check_same_config(config: ml_collections.ConfigDict) -> None:
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
          'for `host`'
        )


def micro_batch_size(
  settings: ml_collections.ConfigDict, section: str, devices: int
) -> int:
  """Samples in a micro-step on all devices of all hosts together.

  Args:
    settings: the section with `batch_size`; see `logging.accumulation`.
    section: its name, for the message.
    devices: number of devices.

  Raises:
    UserError: the batch cannot be divided evenly among micro-steps and devices.
  """
  batch, micro_steps = settings.batch_size, accumulation(settings)
  if batch % (micro_steps * devices):
    count = jax.process_count()
    of_hosts = f' of {count} hosts' if count > 1 else ''
    steps = ''
    if 'accumulation' in settings:
      steps = f'config.{section}.accumulation={micro_steps} micro-steps on '
    raise UserError(
      f'config.{section}.batch_size={batch} cannot be divided evenly among '
      f'{steps}{devices} devices{of_hosts}: make it a multiple of '
      f'{micro_steps * devices}'
    )
  return batch // micro_steps


def _check_accumulation(now: int, section: str, workdir: Path) -> None:
  """Checks that accumulation is unchanged, since checkpoints count micro-steps."""
  before = accumulation(load_config(workdir)[section])
  if now != before:
    raise UserError(
      f'`config.{section}.accumulation={now}` cannot continue '
      f'`workdir={workdir}`, which was started with {before}: set it to {before} '
      'or use another `workdir`'
    )


def _empty(abstract: Any) -> Any:
  """Returns zeros of the shapes and dtypes of a tree."""
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract)


def _shard(batch: Any, devices: int) -> Any:
  """Splits the batch: [b, ...] to [devices, b / devices, ...]."""
  # -1 for the share would be ambiguous if a field is empty.
  return jax.tree.map(
    lambda x: x.reshape(devices, len(x) // devices, *x.shape[1:]), batch
  )

"""--mode=mix: trains the mixture on candidates that are computed once.

  videos -> scenes with cameras and objects -> the engine without its mixture
    -> windows: inputs of the mixture for 16 frames each
  windows -> runs of `config.mix.run` frames -> the mixture -> its colors

All other networks stay as they are in `config.train.init`, so their results are
stored (`mixture_windows.py`), and an update takes seconds. In an update, the mixture
colors the runs of a few windows one after the other, and learns after each run. Its
state passes from run to run, without a gradient.

The parameters in checkpoints are running averages of those that learn.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from vitexco_jax import files, flow
from vitexco_jax.checkpoint import (
  check_params,
  load_params,
  with_position_grid,
)
from vitexco_jax.config import check
from vitexco_jax.data.input_pipeline import Drawn, Feed
from vitexco_jax.errors import UserError
from vitexco_jax.generator import abstract_params, make_generator
from vitexco_jax.models.mixture import Mixed, Mixture
from vitexco_jax.training import (
  candidates,
  loop,
  losses,
  mixture_windows,
  scenes,
)
from vitexco_jax.training.mixture_windows import Window

_logger = logging.getLogger(__name__)

_WARMUP = 50  # Steps of the optimizer; then a cosine to 0.
_GRADIENT_NORM = 1.0  # Gradients are clipped to it.
_WEIGHT_DECAY = 1e-3
_AVERAGE = 0.99  # Decay of the average of the parameters.
_NO_ANCHOR = 0.2  # Share of the windows whose anchor is left out.
_LAST = 5  # The last frames of a window, where errors have accumulated.


class MixState(NamedTuple):
  """The state of a run without the data feed."""

  micro_step: jax.Array  # Number of completed updates.
  params: dict[str, Any]  # The generator's; the average of the mixture.
  learned: dict[str, Any]  # Current values of the mixture.
  optimizer: Any


def mix(config: ml_collections.ConfigDict, videos: Path, workdir: Path) -> None:
  """Makes windows and trains the mixture for `config.mix.updates`.

  Args:
    config: of the run; `train.init` names the weights of all other networks, and of
      the mixture to start with.
    videos: a folder of videos in color, or a text file that lists them.
    workdir: folder of the run. Its checkpoints contain complete generators, so it
      can be used and exported like a run of training.

  Raises:
    UserError: the weights have no mixture, there are no usable videos, the config is
      invalid, or as `loop.run`.
    KeyboardInterrupt: as `loop.run`.
  """
  check(config)
  settings = config.mix
  config, params = _load_initial(config)
  mixture = make_mixture(config)
  batch_size = loop.micro_batch_size(settings, 'mix', jax.local_device_count())
  folder = workdir / 'windows'
  files.make_folder('workdir', folder)
  collector = candidates.CandidateCollector(params, config)
  windows = mixture_windows.prepare(config, collector, videos, folder)
  validate = make_validate(mixture, windows.validation)
  optimizer = make_optimizer(settings)
  loop.run(
    config,
    'mix',
    workdir,
    make_feed(windows.train, config.data, config.seed, batch_size),
    init=functools.partial(init_state, optimizer, params),
    load=functools.partial(_load, params),
    step=make_step(mixture, settings, optimizer, loop.AXIS),
    validate=validate if windows.validation else None,
    finish=functools.partial(_finish, validate, params, workdir),
  )


def _load_initial(
  config: ml_collections.ConfigDict,
) -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
  """Loads the initial weights, and returns them with the config that fits."""
  init = config.train.init
  if not init:
    raise UserError(
      'config.train.init must name weights, such as weights/small: their '
      'candidates are mixed'
    )
  model = config.model
  if model.colorizer.kind != 'mixture' or not model.mixture.channels:
    raise UserError(
      'config.model has no mixture that learns: use configs/vitexco.py:small, or '
      'set config.model.colorizer.kind=mixture and config.model.mixture.channels'
    )
  config = with_position_grid(config)
  params = load_params(init)
  check_params(params, abstract_params(config), f'config.train.init={init}')
  return config, params


def make_mixture(config: ml_collections.ConfigDict) -> Mixture:
  """Builds the mixture of a config, as the engine uses it."""
  generator = make_generator(config, in_use=True)
  return Mixture(**generator.mixture, dtype=jnp.dtype(generator.dtype))


def make_feed(
  paths: Sequence[Path],
  data: ml_collections.ConfigDict,
  seed: int,
  batch_size: int,
) -> Feed:
  """Returns the feed of `Window`: each epoch has each of them once.

  Args:
    paths: of the windows.
    data: `config.data`, for the number of threads and processes.
    seed: of the order and of the windows that lose their anchor.
    batch_size: windows in a batch.
  """
  samples = (
    grain.MapDataset.range(len(paths))
    .seed(seed)
    .shuffle()
    .random_map(functools.partial(_draw, paths=paths))
    .repeat()
  )
  return Feed(samples, batch_size, data, host=0, hosts=1)


def _draw(
  sample: int, rng: np.random.Generator, paths: Sequence[Path]
) -> Drawn:
  window = mixture_windows.load(paths[sample])
  if rng.random() < _NO_ANCHOR:
    inputs = candidates.without_anchor(np.asarray(window.inputs))
    window = window._replace(inputs=inputs)
  return Drawn(window, np.str_(''))


def unroll(
  mixture: Mixture,
  params: Mapping[str, Any],
  previous: jax.Array,
  inputs: jax.Array,
  stride: int = 1,
) -> tuple[jax.Array, Mixed]:
  """Mixes the colors of consecutive frames, as `vitexco.colorize_clip` does.

  Args:
    mixture: the network.
    params: its parameters.
    previous: [b, n, m, 4], the frame before the first one: Lab, l = L - 50, and the
      logarithm of the squared error of its ab; 0 if there is none.
    inputs: [t, b, n, m, CHANNELS]; see `candidates`.
    stride: pixels of the inputs for each position of the mixture.

  Returns:
    `previous` of the next frames; the colors and decisions, fields [t, b, ...].
  """
  apply: Callable[..., Any] = mixture.apply

  def step(previous: jax.Array, inputs: jax.Array) -> tuple[jax.Array, Mixed]:
    luminance, guidance, backward_flow = candidates.unpack(inputs)
    mixed = apply(
      {'params': params},
      luminance,
      guidance,
      flow.warp(previous, backward_flow),
      stride,
      method='mix',
    )
    return jnp.concatenate([luminance, mixed.color], -1), mixed

  return jax.lax.scan(step, previous, inputs)


def make_optimizer(
  settings: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """AdamW with clipped gradients; it makes a step after each run."""
  return optax.chain(
    optax.clip_by_global_norm(_GRADIENT_NORM),
    optax.adamw(schedule(settings), weight_decay=_WEIGHT_DECAY),
  )


def schedule(settings: ml_collections.ConfigDict) -> Callable[[Any], Any]:
  """The learning rate by step: linear warmup, then cosine to 0."""
  steps = settings.updates * (scenes.FRAMES // settings.run)
  return optax.warmup_cosine_decay_schedule(
    0.0, settings.learning_rate, min(_WARMUP, steps // 4), steps
  )


def init_state(
  optimizer: optax.GradientTransformation, params: Mapping[str, Any]
) -> MixState:
  """Creates a state with the shapes of parameters and with zeros as values."""
  zeros = jax.tree.map(jnp.zeros_like, dict(params))
  learned = zeros['colorizer']
  return MixState(
    jnp.zeros((), jnp.int32), zeros, learned, optimizer.init(learned)
  )


def _load(params: dict[str, Any], state: MixState) -> MixState:
  return state._replace(params=params, learned=params['colorizer'])


def make_loss(
  mixture: Mixture, candidate_weight: float
) -> Callable[..., tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array]]]]:
  """Makes the loss of a run of frames.

  Args:
    mixture: the network.
    candidate_weight: of the loss `candidates`.

  Returns:
    A function of the mixture's parameters, `previous`, inputs, and true ab, as
    `unroll` takes them. It returns the loss, and `previous` of the next run with the
    unweighted losses by name.
  """

  def loss(
    params: Mapping[str, Any],
    previous: jax.Array,
    inputs: jax.Array,
    true_ab: jax.Array,
  ) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array]]]:
    last, mixed = unroll(mixture, params, previous, inputs)
    raw = {
      'color': losses.log_square(mixed.color[..., :2], true_ab),
      'candidates': losses.candidate_errors(
        mixed.log_errors, mixed.candidates, mixed.possible, true_ab
      ),
    }
    total = raw['color'] + candidate_weight * raw['candidates']
    return total, (last, raw)

  return loss


def make_step(
  mixture: Mixture,
  settings: ml_collections.ConfigDict,
  optimizer: optax.GradientTransformation,
  axis: str,
) -> Callable[[MixState, Window], tuple[MixState, dict[str, jax.Array]]]:
  """Makes the step of an update, to be pmapped over `axis`.

  It returns the new state, and means over the runs of a window: `loss`, each loss as
  `raw/NAME`, and the norm of the gradient.

  Args:
    mixture: the network.
    settings: `config.mix`.
    optimizer: of `make_optimizer`.
    axis: the name of the mapped axis of devices.
  """
  loss = make_loss(mixture, settings.candidate_weight)

  def learn(
    carry: tuple[Any, ...], frames: tuple[jax.Array, jax.Array]
  ) -> tuple[tuple[Any, ...], dict[str, jax.Array]]:
    learned, average, state, previous = carry
    (total, (last, raw)), gradient = jax.value_and_grad(loss, has_aux=True)(
      learned, previous, *frames
    )
    metrics = {'loss': total} | {f'raw/{x}': raw[x] for x in raw}
    gradient, metrics = jax.lax.pmean((gradient, metrics), axis)
    metrics['gradient_norm'] = optax.tree.norm(gradient)
    updates, state = optimizer.update(gradient, state, learned)
    learned = optax.apply_updates(learned, updates)
    average = optax.incremental_update(learned, average, 1 - _AVERAGE)
    return (learned, average, state, last), metrics

  def step(
    state: MixState, batch: Window
  ) -> tuple[MixState, dict[str, jax.Array]]:
    runs = scenes.FRAMES // settings.run

    def divide(x: jax.Array) -> jax.Array:  # To [runs, run, b, ...].
      x = x[: runs * settings.run]
      return x.reshape(runs, settings.run, *x.shape[1:])

    frames = jax.tree.map(divide, _by_frame(batch))
    average = state.params['colorizer']
    carry = state.learned, average, state.optimizer, _begin(batch)
    (learned, average, optimizer_state, _), metrics = jax.lax.scan(
      learn, carry, frames
    )
    return MixState(
      state.micro_step + 1,
      state.params | {'colorizer': average},
      learned,
      optimizer_state,
    ), jax.tree.map(jnp.mean, metrics)

  return step


def _by_frame(batch: Window) -> tuple[jax.Array, jax.Array]:
  """Returns inputs and true ab, [t, b, n, m, c] float32."""
  inputs, true_ab = (
    jnp.asarray(x, jnp.float32).swapaxes(0, 1)
    for x in (batch.inputs, batch.true_ab)
  )
  return inputs, true_ab


def _begin(batch: Window) -> jax.Array:
  """Returns the frame before the first one, [b, n, m, 4], with no error."""
  first = jnp.asarray(batch.first, jnp.float32)
  return jnp.pad(first, ((0, 0), (0, 0), (0, 0), (0, 1)))


def make_validate(
  mixture: Mixture, paths: Sequence[Path]
) -> Callable[[Mapping[str, Any]], dict[str, float]]:
  """Makes `validate(params)`, which measures the colors of windows.

  Args:
    mixture: the network.
    paths: of the windows.

  Returns:
    A function of the generator's parameters. For each kind of reference it returns
    the mean squared error of ab in dB (higher is better), as KIND, and that of the
    last frames as KIND/last.
  """

  @jax.jit
  def measure(params: Mapping[str, Any], batch: Window) -> jax.Array:
    inputs, true_ab = _by_frame(batch)
    _, mixed = unroll(mixture, params, _begin(batch), inputs)
    square = jnp.square(mixed.color[..., :2] - true_ab).sum(-1)
    return -10 * jnp.log10(square.mean((1, 2, 3)) + 1e-3)

  def validate(params: Mapping[str, Any]) -> dict[str, float]:
    by_kind: dict[str, list[np.ndarray]] = {kind: [] for kind in scenes.KINDS}
    for path in paths:
      window = mixture_windows.load(path)
      batch = jax.tree.map(lambda x: x[None], window)
      quality = np.asarray(measure(params['colorizer'], batch))
      by_kind[list(scenes.KINDS)[window.kind]].append(quality)
    row = {}
    for kind, rows in by_kind.items():
      if rows:
        row[kind] = float(np.mean(rows))
        row[f'{kind}/last'] = float(np.mean(np.stack(rows)[:, -_LAST:]))
    return row

  return validate


def _finish(
  validate: Callable[[Mapping[str, Any]], dict[str, float]],
  initial: Mapping[str, Any],
  workdir: Path,
  state: MixState,
) -> None:
  """Prints how the colors of the validation windows changed."""
  before, after = validate(initial), validate(state.params)
  for name in before:
    _logger.info(
      f'{name}: {before[name]:.2f} dB before, {after[name]:.2f} dB after'
    )
  _logger.info(
    f'{workdir} can be used as a checkpoint; to write only its weights, use '
    f'`--mode=export --workdir={workdir} --output=FOLDER`'
  )

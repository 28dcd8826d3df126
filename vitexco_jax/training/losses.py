"""The six losses of Sec. III-D, and additions, as pure functions of arrays.

Each is a mean, an unweighted float32 scalar; the training step multiplies the
weights. `n` is the batch: clips and their frames, flattened. `ab` and `lab` are in
Lab units (a and b about [-110, 110]); l may be centered or not. `features` are
tuples, finest level first.

All losses except the adversarial one are means over samples, so the average over
devices or accumulated steps of equal batches is the loss of the whole batch. The
adversarial loss compares each sample with the mean of the others and takes an
`axis_name` for that.

Losses and gradients are finite, also on flat pictures.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vitexco_jax.flow import warp
from vitexco_jax.models import blocked

_BANDWIDTH = 0.1  # h of Eq. 5.
_CONTEXTUAL_EPSILON = 1e-5  # epsilon of Eq. 5.
_VGG_SQUARE = 4000.0  # Mean square of VGG16's map of stride 16.
# Of strides 4, 8, 16: the ratio of DEVC's weights, normalized.
_CONTEXTUAL_WEIGHTS = (2 / 14, 4 / 14, 8 / 14)
_LEAST_SQUARE = 0.3  # Is added to squared errors of ab before the logarithm.
_COLOR_SCALE = 10.0  # Squared Lab distance at which a neighbor weighs 1/e.


def l1(
  ab: jax.Array, true_ab: jax.Array, sample_weight: jax.Array | None = None
) -> jax.Array:
  """Mean absolute error of the colors, Sec. III-D.1.

  Args:
    ab: [n, h, w, 2], the prediction.
    true_ab: [n, h, w, 2].
    sample_weight: [n] or None, a factor on each sample's error; zeros exclude
      samples. The mean is still over all n, as in DEVC: dividing by the number of
      included samples would make it depend on how a batch is split.

  Returns:
    A scalar.
  """
  error = jnp.abs(_float32(ab) - _float32(true_ab)).mean((1, 2, 3))
  if sample_weight is not None:
    error = error * _float32(sample_weight)
  return error.mean()


def adversarial_generator(
  real_scores: jax.Array, fake_scores: jax.Array, axis_name: str | None = None
) -> jax.Array:
  """Relativistic average least squares, Eq. 3 with DEVC's half.

    1/2 [E (D(real) - E D(fake) + 1)^2 + E (D(fake) - E D(real) - 1)^2]

  Args:
    real_scores: [n], the discriminator's scores of true pairs of frames.
    fake_scores: [n], its scores of predicted pairs.
    axis_name: of the devices that share the batch; the inner E are over all of
      them. The outer E are over this device's samples: average loss and gradients
      over the devices, as for the other losses.

  Returns:
    A scalar.
  """
  return _relativistic(real_scores, fake_scores, 1.0, axis_name)


def adversarial_discriminator(
  real_scores: jax.Array, fake_scores: jax.Array, axis_name: str | None = None
) -> jax.Array:
  """The discriminator's loss for `adversarial_generator`; same arguments.

  1/2 [E (D(real) - E D(fake) - 1)^2 + E (D(fake) - E D(real) + 1)^2]
  """
  return _relativistic(real_scores, fake_scores, -1.0, axis_name)


def _relativistic(
  real_scores: jax.Array,
  fake_scores: jax.Array,
  margin: float,
  axis_name: str | None,
) -> jax.Array:
  real, fake = _float32(real_scores), _float32(fake_scores)
  mean_real, mean_fake = real.mean(), fake.mean()
  if axis_name is not None:
    mean_real, mean_fake = jax.lax.pmean((mean_real, mean_fake), axis_name)
  return 0.5 * (
    jnp.mean((real - mean_fake + margin) ** 2)
    + jnp.mean((fake - mean_real - margin) ** 2)
  )


def perceptual(features: jax.Array, true_features: jax.Array) -> jax.Array:
  """Squared difference of the deepest features, Eq. 4, at the scale of VGG16.

    4000 mean((features - true_features)^2) / mean(true_features^2)

  The paper's weight, 0.005, suits features of VGG, as in DEVC. Features of a Feature
  Transform are layer-normalized, with a mean square of 0.43, ten thousand times
  less, but their relative response to color is similar: removing the color changes
  them by 0.38 of it, and VGG16's by 0.32; halving the saturation by 0.06 and 0.08
  (six pictures, untrained ViT and decoders). Each picture's mean square is therefore
  scaled to that of VGG16.

  Args:
    features: [n, h/16, w/16, c], of the predicted picture.
    true_features: [n, h/16, w/16, c], of the true picture; no gradient.

  Returns:
    A scalar.
  """
  true_features = jax.lax.stop_gradient(_float32(true_features))
  error = jnp.mean((_float32(features) - true_features) ** 2, (1, 2, 3))
  square = jnp.mean(true_features**2, (1, 2, 3))
  return jnp.mean(_VGG_SQUARE * error / jnp.maximum(square, 1e-3))


def contextual(
  features: Sequence[jax.Array],
  reference_features: Sequence[jax.Array],
  block: int = 432,
) -> jax.Array:
  """Dissimilarity of the prediction's features and the reference's, Eq. 5.

  The weighted mean of three levels with weights 2, 4, and 8, the deepest with the
  largest; the finest level is 2x2 average-pooled first (DEVC). Eq. 5 has one level;
  DEVC's weighted sum is 14 times as large.

  Args:
    features: of strides 4, 8, and 16, each [n, h/s, w/s, c], of the prediction.
    reference_features: of the same strides and channels, of the reference,
      which may have another size; no gradient.
    block: positions of the prediction per block; the matrix of all pairs of
      positions is never stored, in the backward pass either.

  Returns:
    A scalar.
  """
  loss = jnp.zeros(())
  levels = zip(features, reference_features, _CONTEXTUAL_WEIGHTS, strict=True)
  for level, (x, reference, weight) in enumerate(levels):
    x = _float32(x)
    reference = jax.lax.stop_gradient(_float32(reference))
    if level == 0:
      x, reference = _pool2x2(x), _pool2x2(reference)
    n, _, _, c = x.shape
    x, reference = x.reshape(n, -1, c), reference.reshape(n, -1, c)
    loss_one = jax.vmap(lambda x, y: _contextual_level(x, y, block))
    loss += weight * loss_one(x, reference).mean()
  return loss


def _contextual_level(
  x: jax.Array, reference: jax.Array, block: int
) -> jax.Array:
  """One level of one picture: x [q, c] and reference [k, c] to a scalar.

  With both centered on the reference's mean and normalized to unit length,

    d = 1 - cosine,    d~ = d / (min_k d + epsilon),
    A = softmax_k((1 - d~) / h),    loss = -log mean_q max_k A.

  The largest A of a row is at the smallest d, where the numerator of the softmax
  cancels:  max_k A = 1 / sum_k exp(-(d - min_k d) / ((min_k d + epsilon) h)).
  No exponent is above 0 and one is 0, so the sum is in [1, k]: nothing overflows
  for any d~, and the argument of the logarithm is at least 1/k.
  """
  center = reference.mean(0)
  x, reference = _unit(x - center), _unit(reference - center)

  def best_affinity(x: jax.Array) -> jax.Array:
    cosine = jnp.matmul(x, reference.T, precision=jax.lax.Precision.HIGHEST)
    # By rounding, the cosine of equal vectors may exceed 1.
    distance = jnp.maximum(1.0 - cosine, 0.0)
    nearest = distance.min(-1, keepdims=True)
    scale = (nearest + _CONTEXTUAL_EPSILON) * _BANDWIDTH
    return 1.0 / jnp.exp((nearest - distance) / scale).sum(-1)

  return -jnp.log(blocked.map_rows(best_affinity, x, block).mean())


def temporal(
  ab: jax.Array, previous_ab: jax.Array, flow: jax.Array, visible: jax.Array
) -> jax.Array:
  """Change of color along the motion between two frames, after Eq. 6.

    mean_x visible(x) (ab(x + flow(x)) - previous_ab(x))^2

  The flow is forward, so the frame is warped back to the grid of the previous frame,
  which is also the grid of flow and visibility. (Eq. 6 has the opposite direction.)

  Args:
    ab: [n, h, w, 2], predicted for frame t.
    previous_ab: [n, h, w, 2], predicted for frame t-1.
    flow: [n, h, w, 2], (dx, dy) in pixels from t-1 to t.
    visible: [n, h, w, 1], 1 where the flow is valid, else 0.

  Returns:
    A scalar, the mean over all pixels; occluded ones count as 0.
  """
  error = (warp(_float32(ab), flow) - _float32(previous_ab)) ** 2
  return jnp.mean(error * _float32(visible))


def smoothness(ab: jax.Array, true_lab: jax.Array) -> jax.Array:
  """Penalizes different colors of neighbors with similar true colors, Eq. 7.

    mean_i (ab_i - sum_j w_ij ab_j)^2,
    w_ij = softmax_j(-|true_lab_j - true_lab_i|^2 / 10)

  j runs over the 3x3 neighborhood of i, including i; pixels outside of the picture
  have no weight. (Eq. 7 lacks the square.)

  Args:
    ab: [n, h, w, 2], the prediction.
    true_lab: [n, h, w, 3]; no gradient.

  Returns:
    A scalar.
  """
  ab = _float32(ab)
  true_lab = jax.lax.stop_gradient(_float32(true_lab))
  _, h, w, _ = ab.shape
  border = ((0, 0), (1, 1), (1, 1), (0, 0))
  padded_ab = jnp.pad(ab, border)
  # Infinitely far from any color: weight 0.
  padded_lab = jnp.pad(true_lab, border, constant_values=jnp.inf)
  weighted, total = jnp.zeros(()), jnp.zeros(())
  for dy in range(3):
    for dx in range(3):
      at = (slice(None), slice(dy, dy + h), slice(dx, dx + w))
      distance = jnp.sum((padded_lab[at] - true_lab) ** 2, -1, keepdims=True)
      # The center has exp(0), the largest: no need to shift the exponents.
      weight = jnp.exp(-distance / _COLOR_SCALE)
      weighted += weight * padded_ab[at]
      total += weight
  return jnp.mean((ab - weighted / total) ** 2)


def expected_error(
  log_error: jax.Array, ab: jax.Array, true_ab: jax.Array
) -> jax.Array:
  """How well an error is predicted; an addition to the paper.

  The negative log-likelihood of a Gaussian, up to constants: s + e^2 / exp(s) is
  least if s is the logarithm of the squared error e^2 to be expected.

  Args:
    log_error: [..., 1], s.
    ab: [..., 2], predicted; gets no gradient.
    true_ab: [..., 2].

  Returns:
    Mean over all positions. 1 is added to the squared errors, and no position
    counts for more than 50, so that outliers do not dominate.
  """
  square = jnp.square(jax.lax.stop_gradient(ab) - true_ab).sum(-1) + 1.0
  log_error = log_error[..., 0]
  ratio = jnp.minimum(square * jnp.exp(-log_error), 50.0)
  return (log_error + ratio).mean()


def log_square(ab: jax.Array, true_ab: jax.Array) -> jax.Array:
  """Mean logarithm of the squared errors of frames; an addition to the paper.

  Easy and difficult frames count the same.

  Args:
    ab: [..., h, w, 2], the prediction.
    true_ab: [..., h, w, 2].
  """
  square = jnp.square(ab - true_ab).sum(-1).mean((-2, -1))
  return jnp.log(square + _LEAST_SQUARE).mean()


def candidate_errors(
  log_errors: jax.Array,
  candidates: Sequence[jax.Array],
  possible: jax.Array,
  true_ab: jax.Array,
) -> jax.Array:
  """How well a mixture predicts the errors of its candidates.

  The negative log-likelihood of Gaussians, as in `expected_error`, of all candidates
  that are possible.

  Args:
    log_errors: [..., k], predicted logarithms of the squared errors.
    candidates: k of [..., 2], ab; they get no gradient.
    possible: [..., k], above 0 where there is such a candidate.
    true_ab: [..., 2].

  Returns:
    Their mean. The ratio of an error to its prediction counts between exp(-8) and
    exp(3).
  """
  colors = jax.lax.stop_gradient(jnp.stack(candidates, -2))
  square = jnp.square(colors - true_ab[..., None, :]).sum(-1)
  log_ratio = jnp.log(square + _LEAST_SQUARE) - log_errors
  loss = 0.5 * (jnp.exp(jnp.clip(log_ratio, -8.0, 3.0)) + log_errors)
  counts = possible > 0
  return (counts * loss).sum() / counts.sum()


def _float32(x: jax.Array) -> jax.Array:
  return jnp.asarray(x, jnp.float32)


def _pool2x2(x: jax.Array) -> jax.Array:
  """Averages 2x2 cells: [n, h, w, c] to [n, h//2, w//2, c]; crops odd sides."""
  n, h, w, c = x.shape
  x = x[:, : h // 2 * 2, : w // 2 * 2]
  return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def _unit(x: jax.Array) -> jax.Array:
  """Unit vectors along the channels; zero stays zero, with finite gradients."""
  return x * jax.lax.rsqrt(jnp.sum(x**2, -1, keepdims=True) + 1e-8)

"""Tables and contact sheets of plans."""

from vitexco_jax.inference import plan


def test_a_table_shows_the_times_of_a_varying_rate(surveyed):
  shots = [plan.Shot(0, 2, ()), plan.Shot(2, 4, ())]
  choice = (plan.Choice('a.png'),)
  film_plan = surveyed.plan._replace(
    shots=tuple(shot._replace(references=choice) for shot in shots)
  )
  assert '0:00:07.5' in plan.table(film_plan, [0.0, 0.04, 7.5, 7.54])

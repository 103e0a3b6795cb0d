"""Stripe on this machine: what the live adapter meets in the tests.

It is written from the outside in. What may be sent is derived from the typed parameters of the
installed package, so a parameter that Stripe dropped is refused here as well; what comes back has the
shapes of the package's resources. Fault switches make it answer the way Stripe and what stands
between do on a bad day.
"""

from tests.fakes.stripe_api.params import Problem, check
from tests.fakes.stripe_api.wire import Call, FakeStripe, Fault

__all__ = ["Call", "FakeStripe", "Fault", "Problem", "check"]

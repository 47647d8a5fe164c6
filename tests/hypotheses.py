"""How much the property tests try: the same few examples each time in `make check`; with
SAMPAN_FUZZ_ROUNDS, as `make fuzz` sets it, so many, other ones each time."""

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

ROUNDS = os.environ.get("SAMPAN_FUZZ_ROUNDS")

tried = settings(
    max_examples=int(ROUNDS or 100),
    derandomize=ROUNDS is None,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([-1, 1 << 63, 1 << 64, 1 << 70, "/x", "\0", "\ud800", "x" * 5000]),
)  # fmt: skip


def any_json(max_leaves: int = 12) -> st.SearchStrategy[Any]:
    return st.recursive(
        SCALARS,
        lambda children: st.one_of(
            st.lists(children, max_size=4),
            st.dictionaries(st.text(max_size=8), children, max_size=4),
        ),
        max_leaves=max_leaves,
    )

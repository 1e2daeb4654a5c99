"""How Ax is kept quiet: it logs every trial, and warns of what it and its libraries deprecate."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_ax() -> Iterator[None]:
    """Import Ax, and keep its news and warnings off the terminal meanwhile."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ax.api.client  # noqa: F401  # what it says, it says when it is imported

            yield
    finally:
        logging.disable(level)

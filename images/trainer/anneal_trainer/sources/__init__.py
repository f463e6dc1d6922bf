"""Where models and data come from: one module a scheme, behind one interface (`place.Place`)."""

from anneal_trainer.sources.connect import connect
from anneal_trainer.sources.data import Opened, opened
from anneal_trainer.sources.leash import Leash
from anneal_trainer.sources.place import shown

__all__ = ["Leash", "Opened", "connect", "opened", "shown"]

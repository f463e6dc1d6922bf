"""From a URI to the place that it names: the only list of schemes in the data plane."""

from __future__ import annotations

from pathlib import Path

from anneal.api.references import GsLocation, HttpsLocation, HubFile, HubModel, OciLocation, S3Location, parse
from anneal.api.runs import Access
from anneal_trainer.errors import UserMistake
from anneal_trainer.sources import gs, hub, oci, s3
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.https import Page
from anneal_trainer.sources.layers import Unpacking
from anneal_trainer.sources.leash import Leash
from anneal_trainer.sources.pins import Pins
from anneal_trainer.sources.place import Place

_HUB = "https://huggingface.co"


def connect(uri: str, access: Access, leash: Leash, pins: Path, unpacking: Unpacking) -> Place:
    """The place, resolved: a branch to the commit that it named when this job first asked.

    `pins` is the file that remembers it, so that a run that starts again gets what the first one got;
    `unpacking` is for places that have their files in archives. Raises UserMistake or Unavailable.
    """
    where = parse(uri)
    credentials = Credentials.read(access.credentials)
    if isinstance(where, HttpsLocation):
        return Page(where.url, leash, credentials.tls())
    if isinstance(where, HubModel | HubFile):
        known = Pins(pins)
        endpoint = access.endpoint or _HUB
        place = hub.connect(where, endpoint, credentials, leash, known.get(f"{endpoint} {uri}"))
        known.keep(f"{endpoint} {uri}", place.revision)
        return place
    if isinstance(where, OciLocation):
        known, name = Pins(pins), f"{access.endpoint or ''} {uri}"
        image = oci.connect(where, access.endpoint, credentials, leash, known.get(name), unpacking)
        known.keep(name, image.revision)
        return image
    if isinstance(where, S3Location):
        return s3.connect(where, access.endpoint, credentials, leash)
    if isinstance(where, GsLocation):
        return gs.connect(where, access.endpoint, credentials, leash)
    raise UserMistake("SourceNotAllowed", f"{uri} is nothing that is fetched")

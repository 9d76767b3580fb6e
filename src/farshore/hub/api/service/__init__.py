"""IoT Hub's service REST API: identities, twins, queries, configurations and methods, over the same fleet as every other door."""

from farshore.hub.api.service import configurations, entrance, identities, twins

__all__ = ["ENDPOINTS", "entrance"]

ENDPOINTS = (*twins.ENDPOINTS, *identities.ENDPOINTS, *configurations.ENDPOINTS)

"""The operator's side of the hub's API, for scripts and for the command line.

>>> hub = Hub("http://127.0.0.1:8400", token)                                        # doctest: +SKIP
>>> hub.push("detector", ["./v2/"], properties={"map50": 0.41}, alias="candidate")   # doctest: +SKIP
>>> hub.put_deployment("prod", model="detector@candidate", selector="tags.site = 'oslo'")  # doctest: +SKIP
"""

from farshore.client.hub import Hub
from farshore.client.upload import collect

__all__ = ["Hub", "collect"]

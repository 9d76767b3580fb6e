"""HTTP in front of the hub: routes, limits, and the one shape of errors. It decides nothing and knows no SQL."""

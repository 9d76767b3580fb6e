"""Which hub is the right one: addresses that need TLS, contexts for it, and pins for a hub that is its own authority.

Used by whoever calls a hub. TLS 1.3 alone; a certificate is believed by the system's authorities, by those in a file, or, on
first contact, by the pin of an authority that came with the invitation.
"""

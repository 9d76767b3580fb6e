"""Bytes on disk: the one atomic-write ritual, blobs by digest, versions side by side, object stores."""

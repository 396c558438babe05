"""The result cache: what may be kept under which key, where it is kept, and when it counts no more."""

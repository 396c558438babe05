"""Who is asking: credentials become a caller whose right to a pool is proven."""

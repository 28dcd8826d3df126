"""References from a collection: embedding, gallery, retrieval."""

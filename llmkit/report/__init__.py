"""What a person looks at when a run is done: figures, curves and samples on one page."""

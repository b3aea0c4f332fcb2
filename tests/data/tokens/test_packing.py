"""Positions and boundaries of packed documents, worked by hand."""

import numpy as np

from llmkit.data.tokens.packing import boundaries, position_ids

EOS = 9


def test_positions_begin_again_behind_every_end():
    ids = np.array([[1, 2, EOS, 3, EOS, EOS, 4], [EOS, 1, 2, 3, 4, 5, EOS]])
    assert position_ids(ids, EOS).tolist() == [[0, 1, 2, 0, 1, 0, 0], [0, 0, 1, 2, 3, 4, 5]]


def test_boundaries_are_those_of_the_batch_as_one_row():
    positions = np.array([[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]])
    bounds, longest = boundaries(positions)
    assert bounds.tolist() == [0, 3, 5, 9, 10] and bounds.dtype == np.int32 and longest == 4

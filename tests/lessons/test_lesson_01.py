"""What lesson 01 defines for the others."""

import numpy as np
import pytest

from course_utils import lessons


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2)])
def test_signed_pictures_show_zero_as_grey_and_each_array_by_its_own_largest(shape):
    arrays = np.array([[0.0, 1, -2, 0.5], [30, 0, 0, -15], [0, 0, 0, 0]]).reshape(shape)
    expected = np.array([[0.5, 0.75, 0, 0.625], [1, 0.5, 0.5, 0.25], [0.5] * 4]).reshape(shape)
    np.testing.assert_allclose(lessons.signed_pictures(arrays), expected)

"""The checks behind `exercise(name, answer)`, one module per lesson; importing this package registers them all.

A check calls the answer with small inputs whose result is known, and says with `require` what is missing. It never
repeats the student's code: the expected values come from Keras, from another formula, or from a case done by hand.
"""

from course_utils.exercises import lesson_01 as lesson_01
from course_utils.exercises import lesson_02 as lesson_02
from course_utils.exercises import lesson_03 as lesson_03
from course_utils.exercises import lesson_04 as lesson_04
from course_utils.exercises import lesson_05 as lesson_05
from course_utils.exercises import lesson_06 as lesson_06
from course_utils.exercises import lesson_07 as lesson_07
from course_utils.exercises import lesson_08 as lesson_08
from course_utils.exercises import lesson_09 as lesson_09
from course_utils.exercises.registry import exercise, exercise_names, what_is_missing

__all__ = ["exercise", "exercise_names", "what_is_missing"]

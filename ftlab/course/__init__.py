"""What the notebooks call beside the library: exercises with their checks, quizzes, stored results with their date, the first cell."""

from ftlab.course.exercise import Exercise, OpenTask, Question, check, quiz
from ftlab.course.replay import speed, stored, stored_evaluations, stored_if_there

__all__ = ["Exercise", "OpenTask", "Question", "check", "quiz", "speed", "stored", "stored_evaluations", "stored_if_there"]

"""A task folder made of labelled rows: read (`table`), looked through (`derive`), written with its documents begun (`folder`)."""

from ftlab.newtask.folder import EXAMPLE, NewTask, new_task

__all__ = ["EXAMPLE", "NewTask", "new_task"]

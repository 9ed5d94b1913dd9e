"""What can go wrong through no fault of the program, as exceptions the command line turns into one sentence.

FtlabError            base; `exit_status` is what the command line returns
├── UsageError (2)    the call is wrong: an unknown task, model or option
└── DataError  (1)    the material is wrong: a broken row, file, download, adapter or disk
"""


class FtlabError(Exception):
    """Base of every error that a user can mend; its text is one sentence for them."""

    exit_status = 1


class UsageError(FtlabError):
    """The call asks for something that does not exist or contradicts itself."""

    exit_status = 2


class DataError(FtlabError):
    """A file, row, download or adapter is not what it has to be.

    Args:
        message: one sentence: what was expected, what was found, what to do.
        problems: one line per broken place ("file:line: …"), all of them, printed below the sentence.
    """

    def __init__(self, message: str, problems: list[str] | None = None):
        super().__init__(message)
        self.problems = problems or []

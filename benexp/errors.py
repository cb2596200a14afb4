"""The one exception that carries a message for the user."""


class BenexpError(Exception):
    """Something the user can mend: the message names the file, key or class and says what to do.

    The command line prints it as one line and exits with 1; Python callers catch this type.
    """

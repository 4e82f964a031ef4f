"""What is declared before a study, and whether the study follows it.

document  the declaration: a file for people, with a digest of its own content
check     the study beside it, item by item
"""

from slm_energy.analysis.registration.check import checked
from slm_energy.analysis.registration.document import (
    Registration,
    RegistrationFile,
    read,
    register,
    to_text,
)

__all__ = ["Registration", "RegistrationFile", "checked", "read", "register", "to_text"]

"""Models on this machine and on the Hugging Face Hub: found, pulled, and pushed.

Importing it imports nothing heavy, for the command line does so at every start.
"""

from .errors import HubError
from .finding import EMBEDDED_NAME, embedded_checkpoint, resolve_model
from .plan import UploadPlan, check_name, plan_upload
from .push import PushResult, check_push, push_folder

__all__ = [
    "EMBEDDED_NAME",
    "HubError",
    "PushResult",
    "UploadPlan",
    "check_name",
    "check_push",
    "embedded_checkpoint",
    "plan_upload",
    "push_folder",
    "resolve_model",
]

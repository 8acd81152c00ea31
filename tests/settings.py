"""The real settings on a data folder of their own: tests neither read nor change the copy that runs in this clone."""

import atexit
import os
import shutil
import tempfile

_folder = tempfile.mkdtemp(prefix="molts-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["MOLTS_DATA_DIR"] = _folder

from molts.settings import *  # noqa: E402, F403

# Every test client starts the middleware anew, and this one would list all static files each time.
WHITENOISE_AUTOREFRESH = True
# The real ones take half a second on purpose.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

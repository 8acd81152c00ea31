"""What every avatar needs, done once: LiveKit's fork server loads this module and its job processes share it.

Imports only. Nothing here may start a thread or open a connection: neither survives the fork.
"""

import numpy  # noqa: F401

import agent_runtime.avatar.job  # noqa: F401 - sets Django up
import avatars.engines.pose_stream  # noqa: F401 - what most faces run on

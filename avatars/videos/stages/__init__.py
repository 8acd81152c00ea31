"""The stages of a video, in the order in which sound and pictures go through them.

`speech` runs in the worker, `lipsync` and `compose` in the child process that renders (`avatars.videos.rendering`),
`publish` in the worker again. Speech goes on to the face piece by piece and frames go straight into the encoder, so all
of them work at the same time.
"""

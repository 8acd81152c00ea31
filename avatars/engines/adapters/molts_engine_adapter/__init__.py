"""Serves a lip-sync model to molts: the engine host, its protocol, and one small file for each model.

Runs inside the model's own environment: Python 3.8 or newer, the standard library and numpy. What a model brings along
(torch, cv2, onnxruntime) is imported by its own file only.
"""

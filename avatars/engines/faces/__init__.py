"""Photographed faces: found in a picture (`marks`), framed (`framing`), and moved by bending the picture itself: head
(`head`), eyes (`eyes`) and mouth (`mouth`), put together by `artist`.
"""

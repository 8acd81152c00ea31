"""Head and shoulders that speak: neck, eyes, nose and mouth, alike for all; a character gives colours, proportions, hair
and clothes."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property, lru_cache

import numpy as np

from avatars.characters.lips import Arch, Lips
from avatars.characters.look import MIDDLE, Look
from avatars.characters.stage import Character, Pose
from avatars.characters.svg import Drawing, Place, Points, ellipse, fade, glow, gradient, placed, soft
from avatars.engines.poses import Eyes, Head, Mouth


class Figure(Character):
    look: Look
    zoom = 1.05

    # -- what a character adds -------------------------------------------------------------------------------------

    def own_definitions(self) -> str:
        """Gradients, glows and blurs beside those of the skin."""
        return ""

    @abstractmethod
    def behind(self, draw: Drawing, pose: Pose) -> None:
        """Hair behind the neck."""

    @abstractmethod
    def clothes(self, draw: Drawing, pose: Pose) -> None:
        """Chest and shoulders."""

    @abstractmethod
    def hair(self, draw: Drawing, pose: Pose) -> None:
        """Hair over the face."""

    def beard(self, draw: Drawing, pose: Pose) -> None:
        """On the skin."""

    def chin_hair(self, draw: Drawing, pose: Pose, mouth: Mouth) -> None:
        """What goes up and down with the chin."""
        draw.path(placed(ellipse(254, 318 + 9.0 * mouth.openness, 17, 9), pose.face()), "@sheen", opacity=0.4)

    def moustache(self, draw: Drawing, pose: Pose, mouth: Mouth) -> None:
        """Over the upper lip."""

    def before(self, draw: Drawing, pose: Pose) -> None:
        """In front of all: glasses, earrings."""

    def hairline(self, draw: Drawing, pose: Pose) -> None:
        """Shadow of the hair on the face; drawn inside the outline of the face."""

    # -- the figure ------------------------------------------------------------------------------------------------

    def body(self, head: Head) -> Drawing:
        draw, pose = self._started(head)
        self.behind(draw, pose)
        self._neck(draw, pose)
        self.clothes(draw, pose)
        if self.look.ears:
            self._ears(draw, pose)
        return draw

    def eyes(self, head: Head, eyes: Eyes) -> Drawing:
        return _eyes(self, head, eyes)

    def mouth(self, head: Head, mouth: Mouth) -> Drawing:
        return _mouth(self, head, mouth)

    def front(self, head: Head) -> Drawing:
        draw, pose = self._started(head)
        self.hair(draw, pose)
        self.before(draw, pose)
        return draw

    def _started(self, head: Head, name: str = "") -> tuple[Drawing, Pose]:
        return Drawing(name), _pose(head)

    @cached_property
    def definitions(self) -> str:
        return self._skin_definitions() + self.own_definitions()

    def _skin_definitions(self) -> str:
        look = self.look
        return "".join(
            (
                gradient("skin", (f"0 {look.light}", f".55 {look.skin}", f"1 {look.shade}"), (0.12, 0, 0.9, 1)),
                gradient("chest", (f"0 {look.skin}", f"1 {look.light}")),
                gradient(
                    "turned", (f"0 {look.shade} 0", f".45 {look.shade} .25", f"1 {look.deep} .5"), (0, 0, 1, 0.15)
                ),
                gradient("lid", (f"0 {look.skin} .2", f".45 {look.skin}", f"1 {look.lid}")),
                glow(
                    "iris",
                    (f"0 {look.iris_light}", f".5 {look.iris_light}", f".82 {look.iris}", f"1 {look.lash}"),
                    (0.5, 0.68),
                    0.6,
                ),
                gradient("white", ("0 #cfc6c2", ".4 #f6f1ec", "1 #fffdfa")),
                gradient("inside", ("0 #2c0b10", "1 #571a20")),
                gradient("teeth", ("0 #a8968e", ".42 #cdc1b8", ".72 #faf6f0", "1 #fffdf9")),
                gradient("tongue", ("0 #d0616a", "1 #a83f4b")),
                gradient("upperlip", (f"0 {look.lip_light}", f"1 {look.lip}")),
                gradient("lowerlip", (f"0 {look.lip}", f".5 {look.lip_light}", f"1 {look.lip}")),
                fade("blush", look.blush, 0.42),
                fade("sheen", "#fff6e8", 0.5),
                fade("dusk", look.deep, 0.5),
                soft("soft2", 2.0),
                soft("soft4", 4.5),
                soft("soft8", 8.0),
            )
        )

    def _neck(self, draw: Drawing, pose: Pose) -> None:
        neck = pose.neck(290, 385)
        w = self.look.neck_wide
        shape = placed(
            f"M{256 - w} 270L{256 - w} 338C{256 - w - 2} 362 196 376 160 388L160 520L352 520L352 388"
            f"C316 376 {256 + w + 2} 362 {256 + w} 338L{256 + w} 270Z",
            neck,
        )
        draw.path(shape, "@chest")
        draw.clip(shape)
        shadow = placed(
            f"M{248 - w} 280L{264 + w} 280L{264 + w} 338C{262 + w} 362 276 382 252 382C230 382 {250 - w} 356 {248 - w} 330Z",
            neck,
        )
        draw.path(shadow, self.look.deep, opacity=0.55, filter="soft4")
        draw.path(
            placed(f"M{236 + w} 300L{268 + w} 300L330 400L{242 + w} 392Z", neck),
            self.look.deep,
            opacity=0.22,
            filter="soft4",
        )
        # Collarbones.
        for side in (-1, 1):
            x = 256 + side * 14
            bone = f"M{x} 398C{x + side * 16} 392 {x + side * 40} 390 {x + side * 64} 384"
            draw.line(placed(bone, pose.body()), self.look.deep, 3.0, opacity=0.18)
        draw.close()

    def _ears(self, draw: Drawing, pose: Pose) -> None:
        for side in (-1, 1):
            x = 256 + side * 77
            ear = (
                f"M{x} 196C{x + side * 4} 186 {x + side * 18} 188 {x + side * 17} 206"
                f"C{x + side * 16} 222 {x + side * 10} 238 {x} 240Z"
            )
            fold = f"M{x + side * 3} 203C{x + side * 9} 197 {x + side * 13} 203 {x + side * 11} 212C{x + side * 10} 219 {x + side * 7} 223 {x + side * 4} 225"
            place = pose.at(-6)
            draw.path(placed(ear, place), self.look.skin if side < 0 else self.look.shade)
            draw.line(placed(fold, place), self.look.deep, 2.6, opacity=0.4)

    def outline(self, head: Head, mouth: Mouth) -> str:
        return placed(self.look.jaw, self._jaw(_pose(head), mouth))

    def skin(self, head: Head) -> Drawing:
        draw, pose = self._started(head)
        face = pose.face()
        # Larger than the face: the chin moves over it.
        draw.path(placed("M160 92L352 92L352 380L160 380Z", pose.at(10)), "@skin")
        # The side away from the light.
        draw.path(placed("M344 120C352 210 330 300 262 346L360 350L360 120Z", pose.at(30)), "@turned", filter="soft8")
        draw.path(placed(ellipse(205, 250, 30, 24), face), "@blush")
        draw.path(placed(ellipse(307, 250, 30, 24), face), "@blush")
        draw.path(placed(ellipse(232, 150, 46, 34), face), "@sheen", opacity=0.7)
        draw.path(placed(ellipse(207, 234, 24, 15), face), "@sheen", opacity=0.5)
        draw.path(placed(ellipse(304, 236, 20, 13), face), "@sheen", opacity=0.3)
        self.hairline(draw, pose)
        self.beard(draw, pose)
        return draw

    def chin(self, head: Head, mouth: Mouth) -> Drawing:
        draw, pose = self._started(head)
        self.chin_hair(draw, pose, mouth)
        return draw

    def middle(self, head: Head, mouth: Mouth) -> Drawing:
        draw, pose = self._started(head, "middle")
        self._nose(draw, pose)
        return draw

    def _jaw(self, pose: Pose, mouth: Mouth) -> Place:
        """The outline of the face; the chin goes down with the opening mouth."""
        drop = 11.0 * mouth.openness
        outline = pose.at(10)

        def place(points: Points) -> Points:
            share = np.clip((points[:, 1] - self.look.jaw_y) / 45.0, 0.0, 1.0)
            moved = points.copy()
            moved[:, 1] += drop * share
            moved[:, 0] += (256 - points[:, 0]) * 0.04 * mouth.openness * share
            return outline(moved)

        return place

    # -- nose ------------------------------------------------------------------------------------------------------

    def _nose(self, draw: Drawing, pose: Pose) -> None:
        look = self.look
        y, w = look.nose_y, look.nose_wide
        tip = pose.face(13)
        wing = pose.face(5)
        bridge = pose.face(7)
        # The side in shade, from the brow down.
        draw.path(
            placed(
                f"M261 196C263 220 266 238 {256 + w} {y - 8}C{256 + w + 1} {y} {256 + w - 5} {y + 4} 258 {y + 4}C262 240 258 220 257 196Z",
                bridge,
            ),
            look.deep,
            opacity=0.26,
            filter="soft2",
        )
        draw.path(placed(ellipse(256, y + 6, w + 4, 6), wing), "@dusk", opacity=0.5)
        # Wings and nostrils.
        for side in (-1, 1):
            x = 256 + side * w
            draw.line(
                placed(
                    f"M{x - side * 1} {y - 9}C{x + side * 4} {y - 4} {x + side * 2} {y + 4} {x - side * 4} {y + 3}",
                    wing,
                ),
                look.deep,
                2.0,
                opacity=0.42,
            )
            draw.path(
                placed(
                    f"M{x - side * 3} {y + 2}C{x - side * 5} {y - 2} {x - side * 9} {y - 1} {x - side * 10} {y + 3}"
                    f"C{x - side * 8} {y + 4.5} {x - side * 5} {y + 4} {x - side * 3} {y + 2}Z",
                    pose.face(8),
                ),
                look.deep,
                opacity=0.75,
            )
        draw.line(
            placed(f"M{256 - 5} {y + 4}C{256 - 2} {y + 6} {256 + 2} {y + 6} {256 + 5} {y + 4}", tip),
            look.deep,
            1.6,
            opacity=0.4,
        )
        draw.path(placed(ellipse(253, y - 8, 9, 8), tip), "@sheen", opacity=0.8)
        draw.path(
            placed("M250 200C249 216 249 232 250 242C253 242 256 240 256 232C256 220 255 210 254 200Z", bridge),
            "#fff6e8",
            opacity=0.26,
            filter="soft2",
        )

    # -- eyes ------------------------------------------------------------------------------------------------------

    def _eye(self, draw: Drawing, pose: Pose, eyes: Eyes, side: int) -> None:
        look = self.look
        x, y, w = 256 + side * look.eye_apart, look.eye_y, look.eye_wide
        face = pose.face(1)
        outer, inner = (x + side * w, y - look.eye_tilt), (x - side * w * 0.96, y + 2.0)
        closing = min(1.0, max(0.0, eyes.lids))
        follow = 2.2 * eyes.gaze_y * (1 - closing)
        down = look.eye_down * (1 - 0.18 * closing)
        # The height of the upper lid's curve: up when open, along the lower lid when closed.
        up = (look.eye_up + follow) * (1 - closing) - (down - 1.2) * closing

        def lid(height: float) -> str:
            return (
                f"C{outer[0] - side * w * 0.30:.2f} {outer[1] - height * 1.38:.2f}"
                f" {inner[0] + side * w * 0.58:.2f} {inner[1] - height * 1.46:.2f} {inner[0]:.2f} {inner[1]:.2f}"
            )

        start = f"M{outer[0]:.2f} {outer[1]:.2f}"
        lower = (
            f"C{inner[0] + side * w * 0.50:.2f} {inner[1] + down * 1.16:.2f}"
            f" {outer[0] - side * w * 0.36:.2f} {outer[1] + down * 1.62:.2f} {outer[0]:.2f} {outer[1]:.2f}Z"
        )
        opening = placed(start + lid(up) + lower, face)

        # Socket.
        draw.path(placed(ellipse(x - side * 2, y - 6, w + 9, 18), face), "@dusk", opacity=0.34)
        if closing < 0.97:
            draw.path(opening, "@white")
            draw.clip(opening)
            ix, iy = x + eyes.gaze_x * 6.0 - side * 0.5, y - 1.2 - eyes.gaze_y * 4.2
            r = look.iris_radius
            draw.path(placed(ellipse(ix, iy, r), face), "@iris")
            draw.path(placed(ellipse(ix, iy, r * 0.44), face), "#140c0a")
            draw.path(placed(ellipse(ix - 3.6, iy - 4.2, 2.9, 3.1), face), "#ffffff", opacity=0.95)
            draw.path(placed(ellipse(ix + 3.8, iy + 4.4, 1.5), face), "#ffffff", opacity=0.45)
            # Shadow of the lid and the lashes on the eyeball.
            shadow = f"M{outer[0]:.2f} {outer[1] - 2:.2f}{lid(up)}L{inner[0]:.2f} {inner[1] + 6:.2f}" + (
                f"C{inner[0] + side * w * 0.58:.2f} {inner[1] + 6 - up * 1.46:.2f}"
                f" {outer[0] - side * w * 0.30:.2f} {outer[1] + 6 - up * 1.38:.2f} {outer[0]:.2f} {outer[1] + 6:.2f}Z"
            )
            draw.path(placed(shadow, face), look.lash, opacity=0.3)
            draw.path(placed(ellipse(inner[0] + side * 2, inner[1], 3.4, 2.6), face), look.blush, opacity=0.55)
            draw.close()
        # The lid: skin between its crease and its edge.
        crease = look.eye_up * 1.36 + 1.0
        skin = (
            f"M{outer[0] + side * 1.5:.2f} {outer[1] - 1:.2f}{lid(up)}"
            f"C{inner[0] + side * w * 0.58:.2f} {inner[1] - crease * 1.3:.2f}"
            f" {outer[0] - side * w * 0.20:.2f} {outer[1] - crease * 1.26:.2f} {outer[0] + side * 1.5:.2f} {outer[1] - 1:.2f}Z"
        )
        lid_skin = placed(skin, face)
        draw.path(lid_skin, "@lid")
        fold = (
            f"M{outer[0] + side * 2:.2f} {outer[1] - 4:.2f}"
            f"C{outer[0] - side * w * 0.22:.2f} {outer[1] - crease * 1.26:.2f}"
            f" {inner[0] + side * w * 0.58:.2f} {inner[1] - crease * 1.28:.2f} {inner[0] + side * 3:.2f} {inner[1] - 5:.2f}"
        )
        draw.line(placed(fold, face), look.deep, 1.7, opacity=0.5 * (1 - 0.55 * closing))
        # Lashes: thick in the middle, with a wing at the outer corner.
        wing = look.lash_wing
        thick = 3.0 + 0.8 * wing
        tail = (outer[0] + side * (1.5 + 4.0 * wing), outer[1] - (2.5 * wing) * (1 - 1.5 * closing))
        lashes = (
            f"M{tail[0]:.2f} {tail[1]:.2f}L{outer[0]:.2f} {outer[1] + 0.8:.2f}{lid(up)}"
            f"C{inner[0] + side * w * 0.55:.2f} {inner[1] - up * 1.46 - thick * 0.9:.2f}"
            f" {outer[0] - side * w * 0.22:.2f} {outer[1] - up * 1.38 - thick * 1.5:.2f} {tail[0]:.2f} {tail[1]:.2f}Z"
        )
        draw.path(placed(lashes, face), look.lash)
        # Lower edge.
        edge = (
            f"M{inner[0] + side * w * 0.35:.2f} {inner[1] + down * 0.62:.2f}"
            f"C{inner[0] + side * w * 0.7:.2f} {inner[1] + down * 0.98:.2f}"
            f" {outer[0] - side * w * 0.40:.2f} {outer[1] + down * 1.30:.2f} {outer[0]:.2f} {outer[1] + 0.5:.2f}"
        )
        draw.line(placed(edge, face), look.lash, 1.3, opacity=0.5)
        bag = (
            f"M{inner[0] + side * 4:.2f} {y + down + 5:.2f}C{inner[0] + side * w * 0.7:.2f} {y + down + 9:.2f}"
            f" {outer[0] - side * w * 0.6:.2f} {y + down + 8:.2f} {outer[0] - side * 5:.2f} {y + down + 4:.2f}"
        )
        draw.line(placed(bag, face), look.deep, 1.6, opacity=look.bags)

    def _brow(self, draw: Drawing, pose: Pose, eyes: Eyes, side: int) -> None:
        look = self.look
        lift = 8.0 * max(0.0, eyes.brows) + 2.0 * min(0.0, eyes.brows)
        frown = -min(0.0, eyes.brows)
        y = look.brow_y - lift
        inner_x = 256 + side * (19.0 - 3.0 * frown)
        inner_y = y + 3.0 + 4.5 * frown
        outer_x = 256 + side * 66.0
        outer_y = y + 4.0
        t, arch = look.brow_thick, look.brow_arch
        d = (
            f"M{inner_x:.2f} {inner_y - t * 0.35:.2f}"
            f"C{inner_x + side * 14:.2f} {y - arch - t * 0.45:.2f} {inner_x + side * 30:.2f} {y - arch - t * 0.75:.2f} {outer_x:.2f} {outer_y:.2f}"
            f"C{inner_x + side * 31:.2f} {y - arch + t * 0.5:.2f} {inner_x + side * 15:.2f} {y - arch + t * 0.95:.2f} {inner_x + side * 1.0:.2f} {inner_y + t * 0.6:.2f}"
            f"C{inner_x - side * 1.6:.2f} {inner_y + t * 0.3:.2f} {inner_x - side * 1.6:.2f} {inner_y - t * 0.1:.2f} {inner_x:.2f} {inner_y - t * 0.35:.2f}Z"
        )
        draw.path(placed(d, pose.face(2)), look.brow, opacity=0.92)

    # -- mouth -----------------------------------------------------------------------------------------------------

    def draw_mouth(self, draw: Drawing, pose: Pose, mouth: Mouth) -> None:
        look = self.look
        place = pose.face(look.mouth_lift)
        lips = Lips.shaped(look, mouth)
        self._around_mouth(draw, pose, mouth, lips)
        draw.path(placed(lips.upper, place), "@upperlip")
        draw.path(placed(lips.lower, place), "@lowerlip")
        if lips.gap > 0.6:
            self._inside_mouth(draw, place, mouth, lips)
        else:
            draw.line(placed(lips.seam, place), "#4a1a1c", 1.9, opacity=0.7)
        shine = ellipse(251, lips.bottom + lips.low * 0.42, lips.half * 0.34, lips.low * 0.22)
        draw.path(placed(shine, place), "#ffffff", opacity=0.26, filter="soft2")
        self.moustache(draw, pose, mouth)

    def _around_mouth(self, draw: Drawing, pose: Pose, mouth: Mouth, lips: Lips) -> None:
        """Shadow under the lower lip, dimples, and the folds from the nose."""
        look = self.look
        spread = max(0.0, 2 * mouth.width - 1)
        place = pose.face(look.mouth_lift)
        draw.path(
            placed(ellipse(MIDDLE, lips.bottom + lips.low + 3.5, lips.half * 0.72, 5), place), "@dusk", opacity=0.6
        )
        for side in (-1, 1):

            def x(value: float, side: int = side) -> float:
                return MIDDLE + side * value

            end, y = lips.half + 2.6 * look.lips, lips.corner
            dimple = f"M{x(end + 1.5)} {y - 3.5}C{x(end + 3.5)} {y - 1} {x(end + 3)} {y + 2} {x(end + 1)} {y + 3.5}"
            draw.line(placed(dimple, place), look.deep, 1.8, opacity=0.2 + 0.15 * spread)
            end = look.mouth_wide + 13 + 4 * spread - 3 * mouth.rounding
            fold = f"M{x(22)} {look.nose_y + 1}C{x(30)} {look.nose_y + 6} {x(end - 1)} {y - 14} {x(end + 1)} {y - 3}"
            deep = look.folds * (0.5 + 0.6 * spread + 0.3 * mouth.openness)
            draw.line(placed(fold, pose.face(3)), look.deep, 4.0, opacity=deep, filter="soft2")

    def _inside_mouth(self, draw: Drawing, place: Place, mouth: Mouth, lips: Lips) -> None:
        shape = placed(lips.inside, place)
        draw.path(shape, "@inside")
        draw.clip(shape)
        if mouth.openness > 0.25:
            rise = (mouth.openness - 0.25) / 0.75
            tongue = ellipse(MIDDLE, lips.bottom + 7 - 8.5 * rise, lips.half * 0.66, 5 + 7 * rise)
            draw.path(placed(tongue, place), "@tongue")
        bite = min(0.46 * lips.gap, 8.5) * (1 - 0.85 * mouth.rounding)
        if bite > 0.5:
            edge, above, below = lips.half * 0.86, lips.top - 8, lips.top + bite
            teeth = Arch(
                (MIDDLE - edge, above),
                ((MIDDLE - edge, below - bite * 0.2), (MIDDLE - edge * 0.6, below), (MIDDLE, below)),
            )
            draw.path(placed(f"{teeth.start}{teeth.across}Z", place), "@teeth")
        draw.close()


@lru_cache(maxsize=4)
def _pose(head: Head) -> Pose:
    """The same for the same head: it remembers where it placed what."""
    return Pose(head, centre=(256, 205), size=(98, 150, 92), neck=385)


@lru_cache(maxsize=64)
def _eyes(figure: Figure, head: Head, eyes: Eyes) -> Drawing:
    draw, pose = figure._started(head, "eyes")
    for side in (-1, 1):
        figure._eye(draw, pose, eyes, side)
    for side in (-1, 1):
        figure._brow(draw, pose, eyes, side)
    return draw


@lru_cache(maxsize=64)
def _mouth(figure: Figure, head: Head, mouth: Mouth) -> Drawing:
    draw, pose = figure._started(head, "mouth")
    figure.draw_mouth(draw, pose, mouth)
    return draw
